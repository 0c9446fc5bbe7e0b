"""What a fitted estimator keeps on disk: plain values, numpy arrays and safetensors bytes.

No pickled torch module, optimiser or callback leaves the process. A joblib file therefore loads
on a machine without the GPU it was fitted on, and a skops file needs no trusted type but ours.
"""

import inspect
import os
import warnings
from abc import abstractmethod
from typing import Any

import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ._training import generators_put_back
from ._version import __version__

_VERSION_KEY = "_sklearn_medfuse_version"
_WEIGHTS_KEY = "_weights"


def module_to_bytes(module: nn.Module) -> bytes:
    """Return the module's parameters and buffers as safetensors bytes, in float32.

    Inference runs in float64 on weights that were trained in float32, so nothing is lost.
    """
    tensors = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in module.state_dict().items()
    }
    return safetensors.torch.save(tensors)


class VersionedStateMixin:
    """Stamp the state with our version and warn when another version reads it.

    A parameter unknown to the version that wrote the state gets its default. `_transient` names
    the attributes that stay in the process.

    The HTML diagram links to the estimator's page on the site that the environment variable
    `SKLEARN_MEDFUSE_DOCS_URL` names: an address ("https://docs.example.org") or a folder on disk
    ("file:///srv/medfuse/html"). Without it there is no link, since every site has its own address.
    """

    _transient: tuple[str, ...] = ()
    _doc_link_module = "sklearn_medfuse"

    @property
    def _doc_link_template(self) -> str:
        """Scikit-learn's template, read when the diagram is drawn; empty for no link."""
        site = os.environ.get("SKLEARN_MEDFUSE_DOCS_URL", "").rstrip("/")
        page = f"{self._doc_link_module}.{{estimator_name}}.html"
        return f"{site}/generated/{page}" if site else ""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state as plain values, numpy arrays and bytes."""
        state = dict(super().__getstate__())  # type: ignore[call-overload]  # a dict always
        for name in self._transient:
            state.pop(name, None)
        state[_VERSION_KEY] = __version__
        return state

    def __setstate__(self, state):
        """Take the state, and warn if another version wrote it."""
        state = dict(state)
        version = state.pop(_VERSION_KEY, None)
        if version != __version__:
            warnings.warn(
                f"This {type(self).__name__} was saved by sklearn-medfuse {version} and is being "
                f"loaded by {__version__}; predictions may differ. Load it with the version that "
                "saved it, or fit it again.",
                UserWarning,
                stacklevel=2,
            )
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if parameter.default is not parameter.empty:
                state.setdefault(name, parameter.default)
        super().__setstate__(state)  # type: ignore[misc]  # BaseEstimator's


class NetStateMixin(VersionedStateMixin):
    """Pickle an estimator that owns a torch module without pickling the module.

    `_get_module()` returns the fitted module or None, `_build_module()` builds an untrained one
    from the fitted attributes, and `_restore_module()` also keeps it. `_n_parts` names the
    parameters that say how many parts of a kind the module has.
    """

    _n_parts: tuple[str, ...] = ()

    @abstractmethod
    def _get_module(self) -> nn.Module | None: ...

    @abstractmethod
    def _build_module(self) -> nn.Module: ...

    @abstractmethod
    def _restore_module(self) -> nn.Module: ...

    def __getstate__(self):
        """Return the state with the module as safetensors bytes."""
        state = super().__getstate__()
        module = self._get_module()
        if module is not None:
            state[_WEIGHTS_KEY] = module_to_bytes(module)
        return state

    def __setstate__(self, state):
        """Rebuild the module and fill it with the saved weights."""
        state = dict(state)
        weights = state.pop(_WEIGHTS_KEY, None)
        super().__setstate__(state)
        if weights is None:
            return
        tensors = safetensors.torch.load(weights)
        self._refuse_other_shapes(tensors)
        # Initial weights are drawn, only to be overwritten: the user's generators stay as they are
        with generators_put_back():
            module = self._restore_module()
        module.load_state_dict(tensors)

    def _refuse_other_shapes(self, tensors: dict[str, torch.Tensor]) -> None:
        """Refuse weights that do not fit the parameters, before taking memory for a net."""
        fits = all(getattr(self, name) <= len(tensors) for name in self._n_parts)
        if fits:
            # The meta device holds shapes without numbers
            with torch.device("meta"), _ShapesOnly():
                shapes = {
                    name: each.shape for name, each in self._build_module().state_dict().items()
                }
            fits = shapes == {name: each.shape for name, each in tensors.items()}
        if not fits:
            raise ValueError(
                f"The saved weights do not fit the parameters of {type(self).__name__}: the file "
                "is damaged or was altered. Get it again from where it was saved."
            )


class _ShapesOnly(TorchFunctionMode):
    """Skip drawing and scaling initial weights.

    On the meta device these import torch._dynamo, which takes one to two seconds.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call `func`, or return something of its result's shape."""
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func is torch.Tensor.mul and not isinstance(args[1], torch.Tensor):
            return args[0]
        func = torch.empty if func is torch.randn else func
        return func(*args, **(kwargs or {}))
