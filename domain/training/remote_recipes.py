"""The recipes of trainers elsewhere, and of programs that are not ours. The provider's adapter in `jobs/providers/`
follows them; a hyperparameter's name here is the one that it reads."""

from domain.training.recipe_kinds import DatasetUse, Parameter, ParameterKind, Recipe
from domain.training.status import Provider

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
