"""The recipes as data: what can be trained, from which data, with which hyperparameters.

The programs that follow a recipe are `jobs/recipes/`; a hyperparameter's name here is the one they read. What trainers
elsewhere offer is in `remote_recipes.py`.
"""

from domain.training.recipe_kinds import Parameter, ParameterKind, Recipe
from domain.training.remote_recipes import REMOTE_RECIPES

_TARGET = Parameter(
    "targetColumn",
    ParameterKind.STR,
    "The column to predict. Without it: the column named target or label.",
    is_column=True,
)
_IGNORED = Parameter(
    "ignoredColumns", ParameterKind.STR_LIST, "Columns not to learn from.", default=(), most=1_000, is_column=True
)
_TEXT = Parameter(
    "textColumn",
    ParameterKind.STR,
    "The column with the text. Without it: the column named text, or the only one beside the target.",
    is_column=True,
)
_MODEL = Parameter(
    "model",
    ParameterKind.STR,
    "The kind of model.",
    default="neural-network",
    choices=("neural-network", "linear", "boosted-trees"),
)
_LAYERS = Parameter(
    "hiddenLayers",
    ParameterKind.INT_LIST,
    "Neurons in each hidden layer of a neural network.",
    default=(512, 256),
    minimum=1,
    maximum=2_048,
    most=5,
)
_BATCH = Parameter(
    "batchSize",
    ParameterKind.INT,
    "Rows per step of a neural network. Without it: chosen by the number of rows.",
    minimum=1,
    maximum=8_192,
)
_RATE = Parameter(
    "learningRate",
    ParameterKind.FLOAT,
    "How far each step goes. Without it: chosen by the model.",
    minimum=1e-7,
    maximum=1_000_000,
)
_REGULARIZATION = Parameter(
    "regularization",
    ParameterKind.FLOAT,
    "How strongly large weights are held back.",
    default=0.0001,
    minimum=0,
    maximum=1_000,
)
_FRACTION = Parameter(
    "testFraction",
    ParameterKind.FLOAT,
    "The part of the rows that is not learned from but judged by.",
    default=0.2,
    minimum=0.01,
    maximum=0.9,
)
_SEED = Parameter(
    "seed",
    ParameterKind.INT,
    "Where chance begins; the same seed and data give the same model.",
    default=0,
    minimum=0,
    maximum=2**32 - 1,
)


def _epochs(default: int) -> Parameter:
    words = "How many times all rows are learned from; for boosted-trees, how many rounds of trees."
    return Parameter("epochs", ParameterKind.INT, words, default=default, minimum=1, maximum=10_000)


_TABULAR = (_TARGET, _IGNORED, _MODEL, _LAYERS, _BATCH, _RATE, _REGULARIZATION, _FRACTION, _SEED)
_FORMATS = ("CSV", "JSONL", "ZIP")
RECIPES = (
    Recipe(
        "tabular-classification",
        "Learns to tell which class a row of a table belongs to.",
        "Aprende a dizer a que classe pertence uma linha de uma tabela.",
        _FORMATS,
        (*_TABULAR, _epochs(60)),
    ),
    Recipe(
        "tabular-regression",
        "Learns to tell a number from the other columns of a row.",
        "Aprende a prever um número a partir das outras colunas de uma linha.",
        _FORMATS,
        (*_TABULAR, _epochs(60)),
        predicts_number=True,
    ),
    Recipe(
        "text-classification",
        "Learns to tell which class a text belongs to.",
        "Aprende a dizer a que classe pertence um texto.",
        _FORMATS,
        (
            *(_TARGET, _TEXT, _RATE, _REGULARIZATION, _FRACTION, _SEED, _epochs(30)),
            Parameter(
                "vocabulary",
                ParameterKind.INT,
                "How many different words and pairs of words are looked at.",
                default=50_000,
                minimum=10,
                maximum=1_000_000,
            ),
        ),
        reads_text=True,
    ),
    *REMOTE_RECIPES,
)
