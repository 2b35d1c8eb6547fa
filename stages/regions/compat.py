"""Lets the pure-Python detectron2 0.6 run here: call `apply()` before importing detectron2.

Each shim looks first whether it is needed. With a detectron2 of one's own build (its upstream's main branch needs none
of them) or an older Pillow, `apply` adds nothing.

| shim | needed because | who asks for it |
|---|---|---|
| module `detectron2._C` | the wheel has no compiled part | detectron2.layers, detectron2.evaluation, at import |
| `PIL.Image.LINEAR` | Pillow 10 removed this old name of BILINEAR | detectron2.data.transforms, at import |

A third trouble is only noise: detectron2 and fvcore call `torch.jit.script` at import, which torch 2.14 deprecates with
two warnings a process. That one message is silenced.

Not bridged, as pairloom does not use it: `detectron2.model_zoo`, whose `pkg_resources` left setuptools with release 82.
"""

import importlib.util
import sys
import warnings
from importlib.machinery import PathFinder
from types import ModuleType

from PIL import Image

COMPILED = "detectron2._C"


def apply() -> list[str]:
    """Put in place what detectron2 needs here. Returns the names of what this call added."""
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    return [*add_compiled_placeholder(), *add_linear()]


def add_compiled_placeholder() -> list[str]:
    """A stand-in for the compiled module, which explains itself to whoever calls into it."""
    if COMPILED in sys.modules or not is_pure_detectron2():
        return []
    placeholder = ModuleType(COMPILED, "Stands in for detectron2's compiled part; see stages/regions/compat.py.")
    vars(placeholder)["__getattr__"] = explain_absence  # a module's own __getattr__, PEP 562
    sys.modules[COMPILED] = placeholder
    return [COMPILED]


def explain_absence(name: str) -> object:
    """What the placeholder answers for any name."""
    if name.startswith("__"):  # the import machinery and inspect look for such names in every module
        raise AttributeError(name)
    raise NotImplementedError(
        f"{COMPILED}.{name} is compiled code, and detectron2 is installed here as pure Python; rotated boxes, "
        "deformable convolution and COCO's fast evaluation need a detectron2 of your own build"
    )


def is_pure_detectron2() -> bool:
    """True where detectron2 is installed without its compiled part. Imports neither."""
    package = importlib.util.find_spec("detectron2")
    if package is None or package.submodule_search_locations is None:
        return False
    return PathFinder.find_spec(COMPILED, package.submodule_search_locations) is None


def add_linear() -> list[str]:
    """`PIL.Image.LINEAR`, where Pillow no longer has it."""
    if hasattr(Image, "LINEAR"):
        return []
    vars(Image)["LINEAR"] = Image.Resampling.BILINEAR
    return ["PIL.Image.LINEAR"]
