"""Tries torch and torchvision out, in a Python process of its own, so that a crash in them takes nobody along.

`facts` runs this file's text with `python -c`. Each step prints one line of JSON as soon as it is known: what was
said before a crash is not lost, and the first step that is missing is the one that crashed.
"""

import importlib.util
import json
import sys
import warnings

MARK = "tlhelpers-probe "


def say(**found: object) -> None:
    """Print one line of findings; other output of the libraries lacks the mark and is passed over."""
    print(MARK + json.dumps(found), flush=True)


def in_a_line(error: object) -> str:
    """An error or warning as one line: its first two lines that are not empty, at most 400 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
    return (name + " ".join(lines[:2]))[:400]


def try_torch() -> bool:
    """Import torch and add two numbers."""
    spec = importlib.util.find_spec("torch")
    say(torch_file=spec.origin if spec else None)
    try:
        import torch

        torch.ones(2).add_(1)
        say(torch=str(torch.__version__), cuda_build=torch.version.cuda, hip_build=torch.version.hip)
    except Exception as error:
        say(torch_error=in_a_line(error))
        return False
    return True


def try_torchvision() -> None:
    """Import torchvision and call one of its compiled operators, which fails where the pair does not match."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            import torch
            import torchvision
            from torchvision.ops import nms

            nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
            say(torchvision=str(torchvision.__version__))
        except Exception as error:
            details = [in_a_line(warning.message) for warning in said if "extension" in str(warning.message)]
            say(torchvision_error="; ".join([in_a_line(error), *details]))


def try_gpu() -> None:
    """Ask torch for a GPU and compute on it; drivers that are too old speak in a warning."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        name, problem = None, None
        try:
            if torch.cuda.is_available():
                name = torch.cuda.get_device_name()
                torch.ones(2, device="cuda").add_(1).sum().item()
            elif torch.backends.mps.is_available():
                name = "Apple GPU"
                torch.ones(2, device="mps").add_(1).sum().item()
        except Exception as error:
            problem = in_a_line(error)
    problem = problem or next((in_a_line(warning.message) for warning in said), None)
    say(gpu=name, gpu_problem=problem, mps_built=torch.backends.mps.is_built())


def try_profile() -> None:
    """Find the profile that a notebook would run in; loads nothing but `tlhelpers.device`."""
    try:
        from tlhelpers.device import current_profile

        now = current_profile()
        say(profile=now.name, device=str(now.device), precision=now.precision, reasons=dict(now.reasons))
    except Exception as error:
        say(profile_error=in_a_line(error))


if __name__ == "__main__":
    sys.path.append(sys.argv[1])  # the folder of the package, last, so that it hides nothing
    if try_torch():
        try_torchvision()
        try_gpu()
        try_profile()
