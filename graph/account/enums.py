"""The enums of accounts, named and described for those who read the schema. Types and inputs take them from here, so
that they are registered before anything refers to them."""

from domain.viewer import Locale, Scope, ViewerKind
from graph.enums import expose

expose(
    Scope,
    "A right of a credential: reading or writing one kind of thing. A signed-in user has all of them.",
    {
        "RUNS_READ": "Read runs, configs and their streams; with MODELS_READ also resources.",
        "RUNS_WRITE": "Quote, start, sync and stop runs, save configs.",
        "DATASETS_READ": "Read datasets.",
        "DATASETS_WRITE": "Make, upload and delete datasets.",
        "MODELS_READ": "Read models, apps and deployments, and open private apps; with RUNS_READ also resources.",
        "MODELS_WRITE": "Deploy and sync models, and say who may open them.",
        "ACCOUNT_READ": "Read who you are, your sessions, keys and accounts at providers; for operators also callbacks"
        " and figures.",
        "ACCOUNT_WRITE": "Change who you are, end sessions, make and revoke keys, connect, test and disconnect accounts"
        " at providers; for operators also apply callbacks.",
    },
)
expose(
    Locale,
    "A language that texts for people exist in.",
    {"EN": "English.", "PT_BR": "Brazilian Portuguese."},
)
expose(
    ViewerKind,
    "The kind of credential that was shown.",
    {
        "NOBODY": "None.",
        "USER": "An access token of a signed-in user.",
        "API_KEY": "A key of a program.",
        "STREAM": "A token to watch runs with, for a while.",
        "POD": "A token of a training, for its own run.",
    },
)

__all__ = ["Locale", "Scope", "ViewerKind"]
