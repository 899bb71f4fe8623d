"""What marking does inside a submission's kernel. It is sent there as text for each step, so nobody can edit it.

A submission shares its process with the checks and could patch what they use. So the marking process compares what
`survey` finds before the first cell with what it finds at each check.
"""

import copy
import hashlib
import importlib
import json
import sys
from typing import Any

WATCHED = ["builtins", "copy", "dis", "hashlib", "importlib", "json", "math", "re", "traceback"]
WATCHED += ["numpy", "numpy.linalg", "pandas", "pandas.api.types", "scipy.stats", "sklearn.metrics", "torch"]
WATCHED += ["torch.nn", "torch.nn.functional", "IPython.core.interactiveshell", "ipykernel.ipkernel"]


def signed(value: Any, secret: str) -> str:
    """The value as JSON, behind its hash with a secret that the submission does not know."""
    text = json.dumps(value)
    return hashlib.sha256((secret + text).encode()).hexdigest() + text


def survey() -> dict[str, str]:
    """Names of the functions, classes and constants that checks rest on, and what they are in this process."""
    found = {f"hook {name}": repr(value) for name, value in _hooks().items()}
    for name, module in list(sys.modules.items()):
        own = name.split(".")[0] in ("tlcourse", "tlhelpers")
        if own or name in WATCHED:
            for key, value in list(vars(module).items()):
                if callable(value) or isinstance(value, type(sys)):
                    # What our modules import can change by itself: AdamW does when it is first used.
                    imported = own and not str(getattr(value, "__module__", "")).startswith("tl")
                    found[f"{name}.{key}"] = str(id(value)) if imported else _identity(value)
                elif own and key.isupper():
                    found[f"{name}.{key}"] = repr(value)
    return {name: hashlib.sha256(value.encode()).hexdigest()[:12] for name, value in found.items()}


def _identity(value: Any) -> str:
    parts: list[Any] = [id(value), id(getattr(value, "__code__", None)), id(getattr(value, "__defaults__", None))]
    if isinstance(value, type):
        own = {key: each for key, each in vars(value).items() if callable(each) or hasattr(each, "__get__")}
        parts += [(key, id(each), id(getattr(each, "__code__", None))) for key, each in sorted(own.items())]
    return repr(parts)


def _hooks() -> dict[str, Any]:
    """What IPython or Python would call before the checks do."""
    shell = importlib.import_module("IPython").get_ipython()
    hooks = {"ast": shell.ast_transformers, "clean": shell.input_transformers_cleanup, "trace": sys.gettrace()}
    hooks |= {"post": shell.input_transformers_post, "profile": sys.getprofile()}
    hooks |= {event: own for event, own in shell.events.callbacks.items() if event.startswith("pre")}
    return {name: [id(each) for each in value] if isinstance(value, list) else value for name, value in hooks.items()}


def prints(names: list[str], space: dict[str, Any]) -> dict[str, str]:
    """Fingerprints of given tables, arrays, functions, lists, texts and numbers; networks and the like are left out."""
    texts = {
        "DataFrame": lambda value: repr(value.to_dict("split")),
        "Series": lambda value: repr(value.to_dict()),
        "ndarray": lambda value: repr((value.shape, value.tobytes())),
        "function": lambda value: repr((value.__code__.co_code, value.__code__.co_names)),
        **dict.fromkeys(("dict", "list", "tuple", "int", "float", "str"), repr),
    }
    known = {name: texts[kind] for name in names if (kind := type(space.get(name)).__name__) in texts}
    return {name: hashlib.sha256(text(space[name]).encode()).hexdigest() for name, text in known.items()}


def vary(names: list[str], space: dict[str, Any]) -> None:
    """Put slightly different numbers into given tables and arrays; `restore` takes them back."""
    space["__given__"] = {name: space[name] for name in names}
    generator = sys.modules["numpy"].random.default_rng(7)

    def other(value: Any) -> Any:
        kind = type(value).__name__
        if kind == "DataFrame":
            return value.assign(**{column: other(value[column]) for column in value.columns if column != "seed"})
        if kind == "Series" and value.dtype == object:
            return value.map(other)
        if kind in ("Series", "ndarray") and value.dtype.kind == "f":
            low, high = value.min(), value.max()
            return (value + (high - low) * generator.uniform(-0.2, 0.2, len(value))).clip(low, high)
        if kind == "list" and value and all(isinstance(each, float) for each in value):
            return [min(max(each + generator.uniform(-0.05, 0.05), 0.0), 1.0) for each in value]
        return value

    for name in names:
        space[name] = other(copy.deepcopy(space[name]))


def restore(space: dict[str, Any]) -> None:
    """Put the given tables and arrays back."""
    space.update(space.pop("__given__"))


def mark(lab: str, exercise: str, call: str, seeds: list[int], space: dict[str, Any]) -> tuple[str, str]:
    """The outcome of an exercise, as state and message; the check is repeated with other inputs, one for each seed.

    `call` is an expression that gives the answers, and what the check needs besides, as a tuple and a dictionary.
    """
    labs = {name: importlib.import_module(f"tlcourse.labs.{name}") for name in ("lab", "answers", lab)}
    task = next(each for each in labs[lab].EXERCISES if each.name == exercise)
    try:
        answers, given = eval(call, space)
    except Exception as error:  # a cell above failed
        return "wrong", f"it could not be checked: {type(error).__name__}: {error}"
    own = [type(answer).__name__ for answer in answers if type(answer).__module__ == "__main__"]
    if own:  # a class of the submission's could be equal to whatever it is compared with
        return "wrong", f"expected a plain value, found an object of your class {own[0]}"
    outcome, variant = labs["lab"].judge(task, answers, given), labs["answers"].VARIANT
    for seed in seeds if outcome.state == "right" else []:
        token = variant.set(seed)
        again = labs["lab"].judge(task, answers, given)
        variant.reset(token)
        if again.state != "right":
            return "wrong", f"right for the inputs in the lab, not for others: {again.message}"
    return outcome.state, outcome.message
