"""Change a frozen configuration by dotted keys, as a command line does: `sampler.steps` = "8".

Generic over nested dataclasses: the type hint of a field says how its text is read. Where a field is marked `Named`, a
class name chooses (`sampler.dynamics` = "CPS"), and dotted keys refer to the fields of that class: a name that the
registry knows, or a class of the user's own (`algorithm` = "my_file.py:MyAlgorithm").
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from limner.core.errors import CLOSE, UntrustedCode, UserError, nearest, shown
from limner.core.plain import real, whole
from limner.core.settings import PLAIN, Named
from limner.registry.find import find, require_seam
from limner.registry.names import REGISTRIES, SEAMS
from limner.registry.served import kind_of

Config = TypeVar("Config")

TYPE = "type"
"""The key that names the class where there is a choice of several."""
MAX_DEPTH = 50
"""Names in a dotted key."""
MOVED = {("model", "max_sequence_length"): ("model", "settings", "max_sequence_length")}
"""Keys of earlier versions, and what they are called now."""
GONE = {
    ("aggregation",): "is said by the reward now: for normalize_then_sum write 'group(a) + 2 * group(b)', for win_rate "
    "'rank(a) + 2 * rank(b)' in place of 'a + 2 * b', or take --preset gdpo or pref_grpo; sum needs nothing",
}
"""Keys of earlier versions that are said otherwise now."""


@dataclass(frozen=True)
class Place:
    """Where in a configuration a value stands, as the user wrote it: `--sampler.clip-high` or `sampler.clip_high`.

    `trusted` are the names of code outside limner that may be run for it; None: any, for the user wrote it.
    """

    prefix: str = ""
    dash: str = "_"
    keys: tuple[str, ...] = ()
    trusted: Collection[str] | None = None

    def child(self, *keys: str) -> Place:
        """Return the place of a key below this one."""
        return dataclasses.replace(self, keys=(*self.keys, *keys))

    def __str__(self) -> str:
        return self.prefix + ".".join(self.keys).replace("_", self.dash)


def override(config: Config, values: Mapping[str, Any], prefix: str = "--") -> Config:
    """Return `config` with the dotted keys of `values` replaced; in keys, `-` and `_` are the same.

    `prefix` is what stands before a key where it was typed.

    A value is text as typed on a command line, or already of the field's type; True stands for a key without a value.
    A class name that is the present one keeps the present fields; another one starts from its defaults.
    Raises UserError for an unknown key, a value of the wrong type, and whatever the configuration itself refuses.
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *path, last = key.replace("-", "_").split(".")
        if len(path) > MAX_DEPTH:
            raise UserError(f"unknown key {prefix}{key[:40]}...: no key has {len(path)} dots")
        node = tree
        for name in path:
            if not isinstance(node.setdefault(name, {}), dict):
                node[name] = {TYPE: node[name]}
            node = node[name]
        if isinstance(node.get(last), dict):
            node[last][TYPE] = value
        else:
            node[last] = value
    return build(type(config), tree, Place(prefix, "-"), config)


def build(kind: type[Config], tree: Mapping[str, Any], place: Place, current: Any = None) -> Config:
    """Return a `kind` with the values of `tree`, and otherwise those of `current`, or the defaults if that is None."""
    hints = hints_of(kind)
    fields = {field.name: field for field in dataclasses.fields(cast(Any, kind))}
    changes: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in fields:
            raise _unknown_key(place.child(*_first_path(name, value)), place, kind, current)
        if not kind_beside(hints[name]):
            changes[name] = read(hints[name], value, place.child(name), _present(fields[name], current))
    for name, named in ((name, named_of(hint)) for name, hint in hints.items() if kind_beside(hint)):
        if named is not None and tree.keys() & {name, named.kind, named.folder}:
            near = {key: _present(fields[key], current) for key in (name, named.kind, named.folder)} | changes
            changes[name] = _read_beside(named, tree.get(name, {}), place.child(name), near)
    for name, field in fields.items():
        needed = field.init and field.default is dataclasses.MISSING is field.default_factory and current is None
        if needed and name not in changes:
            raise UserError(f"{place.child(name)} is missing, and has no default")
    try:
        return kind(**changes) if current is None else dataclasses.replace(current, **changes)
    except (ValueError, TypeError, AssertionError) as error:  # of the maths, or of a user's own class
        raise UserError(f"{place}: {kind.__name__} cannot be made: {error}") from error


def read(hint: Any, value: Any, place: Place, current: Any = None) -> Any:
    """Return `value`, text or plain data, as the type `hint`; `current` is what stands there now."""
    members = members_of(hint)
    if (named := named_of(hint)) is not None:
        return _read_named(named.registry, value, place, current)
    if isinstance(members[0], type) and dataclasses.is_dataclass(members[0]):
        return _read_class(members[0], value, place, current)
    if isinstance(value, Mapping) and value:
        key = next((name for name in value if name != TYPE), TYPE)
        raise UserError(f"unknown key {place.child(*_first_path(key, value[key]))}: {place} holds a single value")
    if type(None) in members and (value is None or value in ("none", "None", "null")):
        return None
    (kind,) = (member for member in members if member is not type(None))
    try:
        return _READERS[get_origin(kind) or kind](kind, value, place)
    except (ValueError, OverflowError):
        raise UserError(f"{place} needs {described(kind)}, got {_shown(value, place)}") from None


def hints_of(kind: type) -> dict[str, Any]:
    """Return the type hints of a configuration's fields, with their marks."""
    return get_type_hints(kind, include_extras=True)


def named_of(hint: Any) -> Named | None:
    """Return the mark of a field whose class is chosen by name from a registry, or None."""
    marks = hint.__metadata__ if get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Named)), None)


def kind_beside(hint: Any) -> bool:
    """Tell whether another field names the class of this one."""
    named = named_of(hint)
    return named is not None and bool(named.kind)


def has_choice(hint: Any) -> bool:
    """Tell whether a field may hold objects of several classes, so that the key `type` chooses."""
    return named_of(hint) is not None and not kind_beside(hint)


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the types a union allows, or the one type that `hint` is, without marks."""
    if get_origin(hint) is Annotated:
        return members_of(hint.__origin__)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in get_args(hint) for member in members_of(part))
    return (hint,)


def keys_of(kind: type, current: Any = None) -> Iterator[tuple[str, ...]]:
    """Yield every key of a configuration, as paths, below the classes that `current` (or its defaults) has chosen."""
    hints = hints_of(kind)
    for field in dataclasses.fields(kind):
        value = _present(field, current)
        if not dataclasses.is_dataclass(value) or has_choice(hints[field.name]):
            yield (field.name,)
        if dataclasses.is_dataclass(value):
            yield from ((field.name, *key) for key in keys_of(type(value), value))


def _present(field: dataclasses.Field[Any], current: Any) -> Any:
    """Return what stands in `field` of `current`, or its default; None if it has none."""
    if current is not None:
        return vars(current)[field.name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _read_class(kind: type, value: Any, place: Place, current: Any) -> Any:
    """Return a `kind` with what of it is set."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        keys = ", ".join(str(place.child(*path)) for path in keys_of(kind, current))
        raise UserError(f"{place} holds no value itself; set {keys}")
    return build(kind, value, place, current)


def _read_named(registry: str, value: Any, place: Place, current: Any) -> Any:
    """Return an object of a class that is chosen by name, or of that which stands there now."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value
    tree = dict(value) if isinstance(value, Mapping) else {TYPE: value}
    kind = named_class(registry, str(tree.pop(TYPE)), place) if TYPE in tree else type(current)
    return build(kind, tree, place, current if type(current) is kind else None)


def _read_beside(named: Named, value: Any, place: Place, near: Mapping[str, Any]) -> Any:
    """Return an object of the class that a field beside it names; None where nothing of it is set.

    `near` are the fields beside it, and what stands in it now, which stays as long as its class does.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return value
    reset = value in (None, "none", "None", "null")
    if not reset and not isinstance(value, Mapping):
        raise UserError(f"{place} holds no value itself; set keys below it, or none of them by {place} none")
    given = {} if reset else value
    current = None if reset else near[place.keys[-1]]
    kind = near[named.kind]
    if not kind and not given and current is None:
        return None
    name = dataclasses.replace(place, keys=(*place.keys[:-1], named.kind))
    chosen = named_class(named.registry, kind or kind_of(near[named.folder]), name)
    kept = current if type(current) is chosen else None
    return build(chosen, given, place, kept) if given or kept is not None else None


def named_class(registry: str, name: str, place: Place) -> type:
    """Return the class that `name` means to a registry, if its code may run and it fits."""
    known = REGISTRIES[registry]
    if name in known:
        return find(known, str(place), name)
    if ":" not in name:
        raise UserError(f"{place} cannot be {name!r}{nearest(name, known)}; your own is named FILE.py:NAME")
    if place.trusted is not None and name not in place.trusted:
        raise UntrustedCode(
            f"{place} names code outside limner, {name!r}, and nothing of a folder that is only opened is run; if you "
            "trust it, say so: --trust-code, or open_run(folder, trust=True)"
        )
    return require_seam(find(known, str(place), name), SEAMS[registry], f"{place} {name!r}")


def _read_bool(kind: Any, value: Any, place: Place) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return _instance(value, bool)


def _read_int(kind: Any, value: Any, place: Place) -> int:
    return whole(value) if isinstance(value, str) else _instance(value, int)


def _read_float(kind: Any, value: Any, place: Place) -> float:
    number = real(value) if isinstance(value, str) else float(_instance(value, int, float))
    if math.isnan(number):
        raise ValueError
    return number


def _read_str(kind: Any, value: Any, place: Place) -> str:
    return _instance(value, str)


def _read_choice(kind: Any, value: Any, place: Place) -> Any:
    choices = {str(choice): choice for choice in get_args(kind)}
    if str(value) not in choices:
        raise UserError(f"{place} cannot be {_shown(value, place)}{nearest(str(value), choices)}")
    return choices[str(value)]


def _read_tuple(kind: Any, value: Any, place: Place) -> tuple[Any, ...]:
    hints = get_args(kind)
    if isinstance(value, str) and not dataclasses.is_dataclass(hints[0]):
        inside = _inside(value.strip())
        value = [part.strip() for part in inside.split(",")] if inside else []
    if isinstance(value, str):
        raise ValueError
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(_instance(value, Sequence))
    if len(hints) != len(_instance(value, Sequence)):
        raise ValueError
    return tuple(read(hint, part, place) for hint, part in zip(hints, value, strict=True))


def _inside(text: str) -> str:
    """Return a list without the brackets around it, if there are any."""
    if text[:1] + text[-1:] in ("()", "[]"):
        return text[1:-1].strip()
    if set(text) & set("()[]"):
        raise ValueError
    return text


_READERS = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_str,
    Literal: _read_choice,
    tuple: _read_tuple,
}


def _instance(value: Any, *kinds: type) -> Any:
    """Return `value` if it is one of `kinds`; a truth value is no number."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError
    return value


def described(kind: Any) -> str:
    """Return what a value of a type is, for a person."""
    hints = get_args(kind)
    if hints and dataclasses.is_dataclass(hints[0]):
        return f"a list, each with {', '.join(field.name for field in dataclasses.fields(hints[0]))}"
    if hints:
        return "values with commas between them" if hints[-1] is Ellipsis else f"{len(hints)} values, as in 1,2"
    return PLAIN[kind]


def _shown(value: Any, place: Place) -> str:
    return "nothing" if value is None or (value is True and place.prefix == "--") else shown(value)


def _first_path(name: Any, value: Any) -> tuple[str, ...]:
    """Return the first full path at or below an unknown key."""
    keys = [key for key in value if key != TYPE] if isinstance(value, Mapping) else []
    return (str(name), *(_first_path(keys[0], value[keys[0]]) if keys else ()))


def _alike(key: str, other: str) -> bool:
    """Tell whether more than half of two keys is alike beside the dashes that begin both."""
    return difflib.SequenceMatcher(None, key.removeprefix("--"), other.removeprefix("--")).ratio() > 0.5


def _unknown_key(key: Place, place: Place, kind: type, current: Any) -> UserError:
    """Return the error that names the nearest known key; a right last part alone (`--lr`) finds its full name."""
    if key.keys in MOVED:
        return UserError(f"{key} is now {dataclasses.replace(key, keys=MOVED[key.keys])}")
    if key.keys in GONE:
        return UserError(f"{key} {GONE[key.keys]}")
    known = {str(place.child(*path)): path[-1] for path in keys_of(kind, current)}
    same = [full for full, last in known.items() if last == key.keys[-1]]
    close = difflib.get_close_matches(str(key), same or known, n=1, cutoff=0.0 if same else CLOSE)
    close = [each for each in close if same or _alike(str(key), each)]
    owner = f": {place} is {kind.__name__}" if place.keys else ""
    hint = f"the nearest known key is {close[0]}" if close else "`limner keys RECIPE` lists all that are known"
    return UserError(f"unknown key {key}{owner}; {hint if known else 'it has none'}")
