"""Learned class activation maps (L-CAM) for pytorch-grad-cam and Captum.

The names, and where each lies, are in `__init__.pyi`; a name's module is imported when it is first
asked for, so that the command's help need not wait for torch.

>>> from learnable_cam_plugin import LearnableCAM, LearnableCAMTrainer
"""

from pkgutil import iter_modules

try:
    import lazy_loader
except ModuleNotFoundError:  # `runtime` stands alone: beside onnxruntime nothing else is installed
    __all__ = []
else:
    __getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)

    # What `import *` brings: the public names, and no sub-package (`cam` is a name users take).
    __all__ = sorted(set(_names) - {module.name for module in iter_modules(__path__)})
