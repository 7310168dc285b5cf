"""The recipes as data: what can be trained, from which data, with which hyperparameters.

The programs that follow a recipe are `jobs/recipes/`; a hyperparameter's name here is the one they read. Recipes of
remote trainers are followed by the provider's adapter in `jobs/providers/`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.training.status import Provider


class ParameterKind(StrEnum):
    """What a hyperparameter's value is."""

    INT = "INT"
    FLOAT = "FLOAT"
    STR = "STR"
    BOOL = "BOOL"
    INT_LIST = "INT_LIST"
    STR_LIST = "STR_LIST"
    OBJECT = "OBJECT"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One hyperparameter of a recipe. `default` None means that the trainer chooses by the data."""

    name: str
    kind: ParameterKind
    description: str
    default: Any = None
    minimum: float | None = None
    """Smallest number, or each number's of a list."""
    maximum: float | None = None
    most: int | None = None
    """Longest list."""
    choices: tuple[str, ...] = ()
    is_column: bool = False
    """Whether the value names columns of the dataset."""
    is_required: bool = False


class DatasetUse(StrEnum):
    """What a recipe does with a dataset."""

    TABLE = "TABLE"
    """Learns from its rows; needs one."""
    FILE = "FILE"
    """Hands it over as it is; needs one."""
    OPTIONAL = "OPTIONAL"
    """Hands it over as it is, if there is one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One thing that can be trained."""

    name: str
    sentence: str
    sentence_pt: str
    formats: tuple[str, ...]
    """The dataset formats it reads."""
    parameters: tuple[Parameter, ...]
    predicts_number: bool = False
    reads_text: bool = False
    providers: frozenset[Provider] = frozenset({Provider.LOCAL, Provider.RUNPOD, Provider.E2B})
    """Who can train it."""
    dataset: DatasetUse = DatasetUse.TABLE
    runs_users_code: bool = False
    """Whether what it runs is its user's own program, and not ours or the provider's."""

    @property
    def is_served_by_us(self) -> bool:
        """Whether what it leaves is a model that we can put online; else it stays where it was trained."""
        return self.dataset is DatasetUse.TABLE

    def parameter(self, name: str) -> Parameter | None:
        """The hyperparameter of that name."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


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


_DESTINATION = (
    Parameter(
        "destination",
        ParameterKind.STR,
        "The model at Replicate that gets the new version, as owner/name. Without it: one is made for the run.",
    ),
    Parameter(
        "hardware",
        ParameterKind.STR,
        "The hardware that a destination is made with, if it has to be made.",
        default="gpu-t4",
    ),
    Parameter(
        "visibility",
        ParameterKind.STR,
        "Who sees a destination that is made.",
        default="private",
        choices=("private", "public"),
    ),
    Parameter(
        "billedHardware",
        ParameterKind.STR,
        "The hardware that the training runs on, by which its price is told.",
        default="gpu-h100",
    ),
    Parameter("input", ParameterKind.OBJECT, "Further inputs of the trainer, as its page names them."),
)
REMOTE_RECIPES = (
    Recipe(
        "flux-lora",
        "Fine-tunes the image model FLUX.1 on pictures, at Replicate.",
        "Ajusta o modelo de imagens FLUX.1 com fotos, no Replicate.",
        ("ZIP",),
        (
            Parameter(
                "trainer",
                ParameterKind.STR,
                "The trainer, as owner/name or owner/name:version.",
                default="ostris/flux-dev-lora-trainer",
            ),
            Parameter("triggerWord", ParameterKind.STR, "The word that stands for what is learned.", default="TOK"),
            Parameter("steps", ParameterKind.INT, "Training steps.", default=1_000, minimum=3, maximum=6_000),
            *_DESTINATION,
        ),
        providers=frozenset({Provider.REPLICATE}),
        dataset=DatasetUse.FILE,
    ),
    Recipe(
        "replicate-trainer",
        "Runs any public trainer at Replicate.",
        "Executa qualquer treinador público no Replicate.",
        ("CSV", "JSONL", "ZIP"),
        (
            Parameter(
                "trainer", ParameterKind.STR, "The trainer, as owner/name or owner/name:version.", is_required=True
            ),
            Parameter(
                "datasetInput",
                ParameterKind.STR,
                "The trainer's input that takes the address of the dataset.",
                default="input_images",
            ),
            *_DESTINATION,
        ),
        providers=frozenset({Provider.REPLICATE}),
        dataset=DatasetUse.OPTIONAL,
    ),
    Recipe(
        "image-tune",
        "Tunes an image model to a person, a pet, a thing or a style, at Astria.",
        "Ajusta um modelo de imagens a uma pessoa, um animal, um objeto ou um estilo, na Astria.",
        ("ZIP",),
        (
            Parameter(
                "className",
                ParameterKind.STR,
                "What the pictures show in a word: man, woman, cat, style.",
                is_required=True,
            ),
            Parameter(
                "baseTuneId",
                ParameterKind.INT,
                "The model to begin with; 1504944 is Flux1.dev.",
                default=1_504_944,
                minimum=1,
                maximum=2**53 - 1,
            ),
            Parameter("modelType", ParameterKind.STR, "Astria's model_type, such as lora.", default="lora"),
            Parameter("preset", ParameterKind.STR, "Astria's preset, such as flux-lora-portrait."),
            Parameter(
                "branch",
                ParameterKind.STR,
                "Astria's branch; fast is a free mock that trains nothing.",
                default="flux1",
            ),
            Parameter(
                "imageUrls",
                ParameterKind.STR_LIST,
                "Public addresses of the pictures, where no dataset has them.",
                default=(),
                most=200,
            ),
            Parameter("token", ParameterKind.STR, "The word that stands for what is learned."),
            Parameter("faceCrop", ParameterKind.BOOL, "Whether faces are cut out first."),
            Parameter("steps", ParameterKind.INT, "Training steps; best left out.", minimum=1, maximum=10_000),
            Parameter(
                "extra", ParameterKind.OBJECT, "Further fields of the tune, as Astria's documentation names them."
            ),
        ),
        providers=frozenset({Provider.ASTRIA}),
        dataset=DatasetUse.OPTIONAL,
    ),
    Recipe(
        "command",
        "Runs a command of yours at RunPod or in a sandbox at E2B; what it leaves in artifact/ is kept.",
        "Executa um comando seu no RunPod ou em um sandbox na E2B; o que ele deixa em artifact/ é guardado.",
        ("CSV", "JSONL", "ZIP"),
        (
            Parameter(
                "command", ParameterKind.STR, "What to run, for bash. Data is at data/content.", is_required=True
            ),
            Parameter(
                "requirements", ParameterKind.STR_LIST, "Packages to install first, for pip.", default=(), most=200
            ),
            Parameter("files", ParameterKind.OBJECT, "Text files to put there: relative path to content."),
            Parameter("diskGb", ParameterKind.INT, "Disk of the machine at RunPod.", minimum=1, maximum=2_000),
            Parameter("cloud", ParameterKind.STR, "RunPod's cloud.", default="SECURE", choices=("SECURE", "COMMUNITY")),
        ),
        providers=frozenset({Provider.RUNPOD, Provider.E2B}),
        dataset=DatasetUse.OPTIONAL,
        runs_users_code=True,
    ),
)
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
