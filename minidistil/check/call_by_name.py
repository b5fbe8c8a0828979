"""Calls of user functions, whose arguments are recognised by their names."""

import inspect


def arguments(function, offers, role_of):
    """The keyword arguments for a call: {argument: the value offered for its role}.

    offers: {role: value}; role_of(name) -> role or None. Raises ValueError for an argument that has
    no default and is not recognised.
    """
    given = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        role = role_of(name)
        if role in offers:
            given[name] = offers[role]
        elif parameter.default is parameter.empty:
            raise ValueError(
                f"the argument {name!r} of {getattr(function, '__name__', 'the function')} is not "
                f"recognised; known are {', '.join(offers)}"
            )
    return given


def roles_of(function, role_of):
    """The roles of a function's arguments, in order; None for an unknown one."""
    return [role_of(name) for name in inspect.signature(function).parameters]
