"""Single-line mutations of a module's source: an operator, an index, a constant, an argument, an
order; made with Python's ast, and only those of `forward`."""

import ast
import copy
import random
import types

OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def changed(node, rng):
    """A node with one change, or None where this kind has none."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, OPERATORS):
        node.op = rng.choice([op for op in OPERATORS if not isinstance(node.op, op)])()
    elif isinstance(node, ast.Compare):
        node.ops[0] = rng.choice([op for op in COMPARISONS if not isinstance(node.ops[0], op)])()
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
        node.value = rng.choice([value + 1, value - 1, 2 * value, -value, 0])
    elif isinstance(node, ast.Call) and len(node.args) > 1 and rng.random() < 0.5:
        node.args = [node.args[1], node.args[0], *node.args[2:]]
    elif isinstance(node, ast.Call) and node.keywords:
        node.keywords.pop(rng.randrange(len(node.keywords)))
    elif isinstance(node, ast.Call) and node.args and rng.random() < 0.5:
        node.args.pop()
    elif isinstance(node, ast.Call) and len(node.args) == 1:
        return node.args[0]  # the call is left out
    else:
        return None
    return node


def other_names(body, node, rng):
    """Another attribute or variable of the same function."""
    node = copy.deepcopy(node)
    kind, field = (ast.Attribute, "attr") if isinstance(node, ast.Attribute) else (ast.Name, "id")
    if kind is ast.Attribute and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
        return None
    names = {
        getattr(n, field) for n in ast.walk(body)
        if isinstance(n, kind) and (kind is ast.Name or ast.unparse(n).startswith("self."))
    } - {getattr(node, field), "self"}  # fmt: skip
    if not names:
        return None
    setattr(node, field, rng.choice(sorted(names)))
    return node


def mutate(source, seed):
    """(description, source) with one line changed."""
    rng, tree = random.Random(seed), ast.parse(source)
    forwards = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name == "forward"]
    while True:
        body = rng.choice(forwards)
        statements = body.body
        if rng.random() < 0.1 and len(statements) > 2:  # an order
            i = rng.randrange(len(statements) - 2)
            statements[i], statements[i + 1] = statements[i + 1], statements[i]
            return f"swapped: {ast.unparse(statements[i])}", ast.unparse(tree)
        places = [
            (parent, field, i)
            for parent in ast.walk(body) for field, value in ast.iter_fields(parent)
            for i, child in enumerate(value if isinstance(value, list) else [value])
            if isinstance(child, ast.expr) and not isinstance(getattr(child, "ctx", 0), ast.Store)
        ]  # fmt: skip
        parent, field, i = rng.choice(places)
        value = getattr(parent, field)
        node = value[i] if isinstance(value, list) else value
        if isinstance(node, ast.Name | ast.Attribute):
            new = other_names(body, node, rng)
        else:
            new = changed(node, rng)
        if new is None or ast.unparse(new) == ast.unparse(node):
            continue
        said = f"line {node.lineno}: {ast.unparse(node)} → {ast.unparse(new)}"
        if isinstance(value, list):
            value[i] = new
        else:
            setattr(parent, field, new)
        return said, ast.unparse(ast.fix_missing_locations(tree))


def loaded(source, name="mutated"):
    """A module of Python from its source."""
    module = types.ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module
