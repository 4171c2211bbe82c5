"""The CEL libraries of Kubernetes that the base language lacks: strings, lists, regex, sets, math, optionals.

https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
Not offered (a rule that uses them is refused when its CRD is created): url, ip, cidr, quantity, format, semver.
"""

import re
from itertools import pairwise
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

ANY = cel.Type.DYN
ANY_LIST = cel.Type.List(ANY)


def _find(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match.group() if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match.group() for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _index_of(items: list[Any], wanted: Any) -> int:
    return items.index(wanted) if wanted in items else -1


def _last_index_of(items: list[Any], wanted: Any) -> int:
    return len(items) - 1 - items[::-1].index(wanted) if wanted in items else -1


def _is_sorted(items: list[Any]) -> bool:
    return all(left <= right for left, right in pairwise(items))


def _contains_all(items: list[Any], wanted: list[Any]) -> bool:
    return all(item in items for item in wanted)


def _member(name: str, identifier: str, parameters: list[Any], result: Any, function: Any) -> Any:
    return cel.FunctionDecl(name, [cel.Overload(identifier, result, parameters, is_member=True, impl=function)])


def _plain(name: str, identifier: str, parameters: list[Any], result: Any, function: Any) -> Any:
    return cel.FunctionDecl(name, [cel.Overload(identifier, result, parameters, is_member=False, impl=function)])


TEXT, INT, BOOL = cel.Type.STRING, cel.Type.INT, cel.Type.BOOL

KUBERNETES = cel.CelExtension(
    "kubernetes",
    [
        _member("find", "string_find_string", [TEXT, TEXT], TEXT, _find),
        _member("findAll", "string_find_all_string", [TEXT, TEXT], cel.Type.List(TEXT), _find_all),
        _member("findAll", "string_find_all_string_int", [TEXT, TEXT, INT], cel.Type.List(TEXT), _find_all),
        _member("isSorted", "list_is_sorted", [ANY_LIST], BOOL, _is_sorted),
        _member("sum", "list_sum", [ANY_LIST], ANY, sum),
        _member("min", "list_min", [ANY_LIST], ANY, min),
        _member("max", "list_max", [ANY_LIST], ANY, max),
        _member("indexOf", "list_index_of", [ANY_LIST, ANY], INT, _index_of),
        _member("lastIndexOf", "list_last_index_of", [ANY_LIST, ANY], INT, _last_index_of),
        _plain("sets.contains", "sets_contains", [ANY_LIST, ANY_LIST], BOOL, _contains_all),
        _plain("sets.intersects", "sets_intersects", [ANY_LIST, ANY_LIST], BOOL, lambda a, b: any(x in b for x in a)),
        _plain(
            "sets.equivalent",
            "sets_equivalent",
            [ANY_LIST, ANY_LIST],
            BOOL,
            lambda a, b: _contains_all(a, b) and _contains_all(b, a),
        ),
    ],
)

EXTENSIONS: list[Any] = [
    ext_bindings.ExtBindings(),
    ext_encoders.ExtEncoders(),
    ext_math.ExtMath(),
    ext_optional.ExtOptional(),
    ext_strings.ExtStrings(),
    KUBERNETES,
]
