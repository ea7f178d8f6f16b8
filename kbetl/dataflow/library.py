"""What calls of PyTorch, of Triton's host side and of Python's own functions give while a source is read."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kbetl.dataflow import builtin
from kbetl.dataflow.operators import CONTAINERS, IDLE, family_of, words
from kbetl.dataflow.values import (
    SIZE,
    UNKNOWN,
    Bound,
    Class,
    Function,
    Instance,
    Layer,
    Library,
    Node,
    Opaque,
    Partial,
    Super,
    Tensor,
    tensors_in,
)

if TYPE_CHECKING:
    from kbetl.dataflow.reader import Reader

_TORCH = ("torch.", "nn.", "F.", "functional.")
_EMPTY = frozenset(
    {"empty", "empty_like", "empty_strided", "new_empty", "empty_strided_cuda", "new_empty_strided"}
)
_MADE = words(
    """
    zeros ones full rand randn randint randperm arange range linspace logspace eye tensor as_tensor
    from_numpy zeros_like ones_like full_like rand_like randn_like randint_like normal multinomial
    tril_indices triu_indices new_zeros new_ones new_full new_tensor scalar_tensor hann_window
    hamming_window floattensor longtensor inttensor booltensor halftensor doubletensor
    """
)
_CASTS = words(
    """
    float double half bfloat16 int long bool short to type type_as cpu cuda detach numpy
    """
)
_FILLS = words(
    """
    zero_ fill_ normal_ uniform_ zeros_ ones_ constant_
    """
)
_SIZES = words(
    """
    size numel stride nelement element_size storage_offset data_ptr dim ndimension
    """
)
_PASSING = words(
    """
    checkpoint compile script jit spectral_norm weight_norm remove_weight_norm custom_fwd custom_bwd
    deepcopy copy dataparallel wrap_triton no_grad enable_grad inference_mode parametrize parametrizations
    disable
    """
)
_SELF = words(
    """
    to cuda cpu half float double bfloat16 eval train requires_grad_ apply share_memory type
    """
)
_LISTED = words(
    """
    parameters buffers children modules named_children named_modules named_parameters
    """
)


def call(
    reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
) -> object:
    """What a call of something by its dotted name gives."""
    reader.on_call(name, [*args, *keywords.values()], node or ast.Pass())
    if "." not in name:
        return builtin.call_builtin(reader, name, args, keywords, node)
    last = name.rpartition(".")[2]
    if last in ("partial", "wraps", "update_wrapper") or name.startswith("functools."):
        return _functools(reader, last, args, keywords, node)
    if last == "OrderedDict" or name == "collections.defaultdict":
        return builtin.dictionary(args)
    if name.startswith("triton."):
        return _triton(reader, last, args, keywords)
    if name.startswith("math.") or (name.startswith("operator.") and not list(_tensors(args))):
        return SIZE if SIZE in args else UNKNOWN
    if name.startswith("operator."):
        return call(reader, f"torch.{last}", args, keywords, node)
    if name in ("copy.copy", "copy.deepcopy") and args:
        return args[0]
    if name.startswith("itertools.") or last == "chain":
        return [one for value in args for one in reader.elements(value)]
    if name.startswith(("einops.",)) and last == "rearrange":
        return reader.operator("rearrange", "copy", args, node)
    operation = reader.custom_ops.get(name.removeprefix("torch.ops.").removesuffix(".default"))
    if operation is not None:
        return reader.call(operation, args, keywords, node)
    if name.startswith("torch.ops.aten."):
        return _torch(reader, f"torch.{name.split('.')[3]}", args, keywords, node)
    if name.startswith(_TORCH) and not name.startswith("torch.ops."):
        return _torch(reader, name, args, keywords, node)
    if any(True for _ in _tensors([*args, *keywords.values()])):
        return reader.unread_call(last, args, keywords, node)
    reader.on_unread(last, [*args, *keywords.values()], node or ast.Pass())
    return Opaque(name)


def _tensors(values: Sequence[object]) -> list[Tensor]:
    return [one for value in values for one in tensors_in(value)]


def _functools(
    reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
) -> object:
    if name == "partial" and args:
        return Partial(args[0], list(args[1:]), dict(keywords))
    if name == "reduce" and len(args) > 1:
        values = [*args[2:3], *reader.elements(args[1])]
        value = values[0] if values else UNKNOWN
        for one in values[1:]:
            value = reader.call(args[0], [value, one], {}, node)
        return value
    if name in ("lru_cache", "cache") and args and isinstance(args[0], Function):
        args[0].results = []
        return args[0]
    return Opaque(f"functools.{name}")


def _triton(reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object]) -> object:
    values = [*args, *keywords.values()]
    kernel = next((one for one in values if isinstance(one, Function)), None)
    if name == "jit" and kernel is not None:
        kernel.is_kernel = True
    if kernel is not None:
        return kernel
    for one in _tensors(values):  # a descriptor, or the same memory as another type
        return one
    return Opaque(f"triton.{name}") if name in ("jit", "autotune", "heuristics") else SIZE


def _torch(
    reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
) -> object:
    last = name.rpartition(".")[2]
    plain = last.lower()
    values = [*args, *keywords.values()]
    held = _tensors(values)
    if plain in ("parameter", "buffer", "uninitializedparameter"):
        return Tensor(Node("parameter"))
    if plain in CONTAINERS - {"dataparallel"} or plain in ("parameterlist", "parameterdict"):
        return _container(reader, last, args)
    if plain in _PASSING and values:
        return _passed(reader, last, args, keywords, node)
    if last[:1].isupper() and (family_of(last) or ".nn." in name or name.startswith("nn.")):
        return Layer(last, node if isinstance(node, ast.Call) else None)
    if last in ("_make_subclass", "_make_wrapper_subclass") and args and isinstance(args[0], Class):
        return Instance(args[0])
    if plain in _EMPTY | _MADE:
        return _new(reader, plain, node)
    if plain in _CASTS and held:
        return held[0]
    if last in _FILLS or (last.endswith("_") and ".init." in name):
        return _filled(reader, held)
    if plain in IDLE:
        return held[0] if held and plain not in ("is_tensor", "numel", "is_floating_point") else Opaque(name)
    family = family_of(last)
    if held and plain in ("max", "min") and len(args) > 1 and isinstance(args[1], Tensor):
        return reader.operator(f"{last}imum", "elementwise", values, node, shown=last)
    if family:
        return _written_to(reader, reader.operator(last, family, values, node), keywords)
    if held:
        return _written_to(reader, reader.unread_call(last, args, keywords, node), keywords)
    return Opaque(name)


def _new(reader: Reader, name: str, node: ast.AST | None) -> Tensor:
    """A tensor that is made without another one, by the name of what makes it."""
    leaf = "parameter" if reader.constructing else "empty" if name in _EMPTY else "made"
    return Tensor(Node(leaf, line=getattr(node, "lineno", 0)))


def _written_to(reader: Reader, value: object, keywords: Mapping[str, object]) -> object:
    """A result, stored into `out=` if the call names one."""
    out = keywords.get("out")
    if isinstance(out, Tensor) and isinstance(value, Tensor):
        reader.write(out, value.node)
        return out
    return value


def _filled(reader: Reader, held: Sequence[Tensor]) -> object:
    if not held:
        return UNKNOWN
    reader.write(held[0], Node("parameter" if reader.constructing else "made"))
    return held[0]


def _container(reader: Reader, name: str, args: Sequence[object]) -> object:
    held = args[0] if args else None
    if isinstance(held, dict):
        if name == "Sequential":
            return Layer(name, items=list(held.values()))
        return dict(held)
    if name in ("ModuleDict", "ParameterDict"):
        return {}
    if name == "Sequential":
        return Layer(name, items=[_layer(one) for one in args])
    return Layer(name, items=[_layer(one) for one in reader.elements(held)] if held is not None else [])


def _layer(value: object) -> object:
    return value.value if hasattr(value, "value") else value


def _passed(
    reader: Reader, name: str, args: Sequence[object], keywords: Mapping[str, object], node: ast.AST | None
) -> object:
    """What functions give that hand on a function or a layer: it, or its result."""
    if name == "checkpoint" and args:
        return reader.call(args[0], args[1:], {}, node)
    values = [*args, *keywords.values()]
    functions = (Function, Layer, Instance, Partial, Bound, Class, Library)
    return next((one for one in values if isinstance(one, functions)), Opaque(f"torch.{name}"))


def initialise(
    reader: Reader, instance: Instance, args: Sequence[object], keywords: Mapping[str, object]
) -> None:
    """What the constructor of a base class that the source does not define stores."""
    base = instance.cls.library_base().rpartition(".")[2]
    if base in ("Sequential", "ModuleList") and args:
        made = _container(reader, base, args)
        instance.items = made.items if isinstance(made, Layer) else []
    elif base and "__init__" not in instance.cls.names:
        instance.attributes |= keywords


def call_method(
    reader: Reader,
    owner: object,
    name: str,
    args: Sequence[object],
    keywords: Mapping[str, object],
    node: ast.AST | None,
) -> object:
    """What a method gives that the source does not define."""
    if isinstance(owner, Tensor):
        return _tensor_method(reader, owner, name, args, keywords, node)
    if isinstance(owner, list):
        return builtin.list_method(reader, owner, name, args)
    if isinstance(owner, dict):
        return builtin.dict_method(reader, owner, name, args)
    if isinstance(owner, Layer | Instance | Super):
        return _module_method(reader, owner, name, args, keywords, node)
    if isinstance(owner, Class):
        return _class_method(reader, owner, name, args, keywords, node)
    if isinstance(owner, Function) and owner.is_kernel:
        if name == "run":
            reader.launch(owner, args, keywords, node or ast.Pass())
        return owner if name == "warmup" else UNKNOWN
    if isinstance(owner, Opaque):
        return call(reader, f"{owner.name}.{name}", args, keywords, node)
    return UNKNOWN


def _tensor_method(
    reader: Reader,
    owner: Tensor,
    name: str,
    args: Sequence[object],
    keywords: Mapping[str, object],
    node: ast.AST | None,
) -> object:
    values = [owner, *args, *keywords.values()]
    if name in _SIZES:
        return SIZE
    if name in ("item", "tolist"):
        return UNKNOWN
    if name in _EMPTY | _MADE:
        return _new(reader, name, node)
    if name in _FILLS:
        return _filled(reader, [owner])
    if name in ("copy_", "set_") and args:
        for one in tensors_in(args[0]):
            reader.write(owner, one.node)
        return owner
    if name in _CASTS:
        reader.on_call(f"tensor.{name}", [*args, *keywords.values()], node or ast.Pass())
        return Tensor(owner.node)
    family = family_of(name)
    if family is None:
        return owner
    if name in ("max", "min") and args and isinstance(args[0], Tensor):
        return reader.operator(f"{name}imum", "elementwise", values, node, shown=name)
    value = reader.operator(name, family, values, node)
    if name.endswith("_") and isinstance(value, Tensor) and value is not owner:
        reader.write(owner, value.node)
        return owner
    if name == "clone":
        return Tensor(owner.node)
    return value


def _module_method(
    reader: Reader,
    owner: Layer | Instance | Super,
    name: str,
    args: Sequence[object],
    keywords: Mapping[str, object],
    node: ast.AST | None,
) -> object:
    if isinstance(owner, Super):
        if not isinstance(owner.instance, Instance):
            return UNKNOWN
        if name == "__init__":
            initialise(reader, owner.instance, args, keywords)
            return None
        base = owner.cls.library_base().rpartition(".")[2]
        if name in ("forward", "__call__") and base:
            return reader.call(Layer(base, items=owner.instance.items), args, keywords, node)
        owner = owner.instance
    if name in ("append", "extend", "insert"):
        reader.writes += 1
        builtin.list_method(reader, owner.items, name, args)
        return owner
    if name in ("add_module", "register_module", "register_buffer", "register_parameter") and len(args) > 1:
        value = args[1] if name in ("add_module", "register_module") else _parameter(args[1])
        if isinstance(owner, Layer):
            owner.items.append(value)
        elif isinstance(args[0], str):
            reader.set_attribute(owner, args[0], value, node or ast.Pass())
        else:
            owner.items.append(value)
        return None
    if name in _SELF:
        return owner
    if name in _LISTED:
        held = reader.elements(owner) if isinstance(owner, Layer) or owner.items else []
        if isinstance(owner, Instance):
            held += [one for one in owner.attributes.values() if isinstance(one, Layer | Instance)]
        return [(UNKNOWN, one) for one in held] if name.startswith("named") else held
    if name in ("values", "items", "keys") and isinstance(owner, Instance):
        return list(owner.attributes.values())
    return UNKNOWN


def _parameter(value: object) -> object:
    return None if value is None else Tensor(Node("parameter"))


def _class_method(
    reader: Reader,
    owner: Class,
    name: str,
    args: Sequence[object],
    keywords: Mapping[str, object],
    node: ast.AST | None,
) -> object:
    if name == "apply" and owner.library_base().endswith("Function"):
        forward = owner.lookup("forward")
        context = Instance(owner)
        return reader.call(forward, [context, *args], keywords, node)
    if name in ("__new__", "_make_subclass"):
        return Instance(owner)
    return UNKNOWN
