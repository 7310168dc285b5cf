"""Models that learn one epoch at a time, so that each step can be watched."""

import copy
import math
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .words import Failure

_DIVERGED = ("non-finite", "infinity", "overflow", "underflow", "NaN")
_RATES = {"neural-network": 0.0003, "linear": 0.01, "boosted-trees": 0.1}


class Learner(Protocol):
    """One model on its training rows."""

    model: Any

    def epoch(self) -> float:
        """Learn once more from all rows; the loss afterwards."""
        ...

    def snapshot(self) -> Any:
        """The model as it is now, to be kept while it learns on."""
        ...


class Incremental:
    """A scikit-learn model with `partial_fit`."""

    def __init__(self, model: Any, features: Any, target: Any, classes: Any) -> None:
        self.model = model
        self.features = features
        self.target = target
        self.classes = classes

    def epoch(self) -> float:
        if self.classes is None:
            self.model.partial_fit(self.features, self.target)
        else:
            self.model.partial_fit(self.features, self.target, classes=self.classes)
        if hasattr(self.model, "loss_"):  # a neural network knows its own
            return float(self.model.loss_)
        return loss_of(self.model, self.features, self.target, self.classes)

    def snapshot(self) -> Any:
        return copy.deepcopy(self.model)


class Boosted:
    """Gradient boosted trees: an epoch adds a round of trees."""

    def __init__(self, model: Any, features: Any, target: Any, classes: Any) -> None:
        self.model = model
        self.features = features
        self.target = target
        self.classes = classes

    def epoch(self) -> float:
        self.model.set_params(max_iter=getattr(self.model, "n_iter_", 0) + 1, warm_start=True)
        self.model.fit(self.features, self.target)
        return loss_of(self.model, self.features, self.target, self.classes)

    def snapshot(self) -> Any:
        # Copying all trees after every round would take longer than growing them; more rounds seldom hurt.
        return self.model


def learner_of(kind: str, options: Mapping[str, Any], features: Any, target: Any, classes: Any) -> Learner:
    """A fresh learner: `kind` is a recipe's model; `classes` is None where a number is predicted."""
    rate = options.get("learningRate") or _RATES[kind]
    seed = int(options["seed"])
    alpha = float(options.get("regularization", 0.0001))
    if kind == "boosted-trees":
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        trees = HistGradientBoostingRegressor if classes is None else HistGradientBoostingClassifier
        leaf = max(2, min(20, len(target) // 20))
        parameters = {"learning_rate": rate, "l2_regularization": alpha, "random_state": seed}
        return Boosted(trees(early_stopping=False, min_samples_leaf=leaf, **parameters), features, target, classes)
    if kind == "linear":
        from sklearn.linear_model import SGDClassifier, SGDRegressor

        shared = {"learning_rate": "constant", "eta0": rate, "alpha": alpha, "random_state": seed, "average": True}
        model = SGDRegressor(**shared) if classes is None else SGDClassifier(loss="log_loss", **shared)
        return Incremental(model, features, target, classes)
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    network = MLPRegressor if classes is None else MLPClassifier
    batch = int(options.get("batchSize") or max(16, min(512, len(target) // 100)))
    model = network(
        hidden_layer_sizes=tuple(options["hiddenLayers"]),
        learning_rate_init=rate,
        alpha=alpha,
        batch_size=min(batch, len(target)),
        random_state=seed,
    )
    return Incremental(model, features, target, classes)


def one_epoch(learner: Learner) -> float:
    """An epoch's loss; a Failure DIVERGED as soon as it is no finite number."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # the finite check below says it in one sentence
            loss = learner.epoch()
    except ValueError as error:
        if any(word in str(error) for word in _DIVERGED):
            raise diverged() from error
        raise
    if not math.isfinite(loss) or abs(loss) > 1e12:
        raise diverged()
    return loss


def diverged() -> Failure:
    """The sentence for a training that ran away."""
    return Failure("DIVERGED", "The training diverged: its loss is no finite number. Try a smaller learningRate.")


def loss_of(model: Any, features: Any, target: Any, classes: Any) -> float:
    """Cross entropy of a classifier, half the mean squared error of a regressor."""
    if classes is None:
        return float(np.mean((model.predict(features) - target) ** 2) / 2)
    probabilities = model.predict_proba(features)
    places = np.searchsorted(model.classes_, target)
    chosen = np.clip(probabilities[np.arange(len(target)), places], 1e-15, 1.0)
    return float(-np.mean(np.log(chosen)))
