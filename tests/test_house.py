"""The house rules that a reviewer would forget, read off the source with `ast`."""

import ast
import inspect
import io
import re
import tokenize
import tomllib
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from minidistil.lesson import capstone
from minidistil.ops import NARROW, OPS, ROUNDED, backend

HOUSE = Path(__file__).resolve().parent.parent
PACKAGE = HOUSE / "minidistil"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "io": 0, "distilbert": 1, "config": 1, "testing": 1, "ops": 2, "model": 3, "data": 3,
    "distill": 4, "losses": 5, "train": 5, "tasks": 6, "check": 6, "lesson": 7, "puzzles": 7,
    "cli": 7, "__main__": 8,
}  # fmt: skip
PEERS = {"torch", "transformers", "onnx", "onnxruntime"}
FRAMEWORKS = PEERS | {"matplotlib", "pandas", "scipy", "sklearn"}
NOT_OPS = {"adamw", "global_norm"}  # arithmetic of the optimiser: nothing to differentiate
NARROW_OPS = {f"{op}_{NARROW[dtype]}" for dtype, ops in ROUNDED.items() for op in ops}
ROLES = ("data", "metrics", "predictor", "command")  # of the files in a task's folder
LINES, COLUMNS = 350, 100
PAGE = 400  # of distilbert.py, the whole algorithm in one file
NUMBA = {f"ops/runtime/{name}.py" for name in (
    "cpu", "cuda", "simulator", "simulated_launch", "machine_code", "kernel_cache")}  # fmt: skip
COMPILED = {"kernel", "serial", "exact"}  # decorators whose functions have code of their own


def name_of(path):
    return str(path.relative_to(PACKAGE))


def module_of(path):
    parts = ("minidistil", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(path):
    """The folder or module of the package that a file belongs to; None for minidistil itself."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def imports(tree, everywhere=True):
    """Full names of the modules that a file imports, all of them or those at its top level."""
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def misplaced(part, modules):
    """The modules of the package that a file of `part` may not import."""
    wrong = []
    for module in modules:
        parts = module.split(".")
        if parts[0] != "minidistil" or len(parts) == 1 or parts[1] == part:
            continue
        if parts[1] in FLOORS and FLOORS[parts[1]] >= FLOORS[part]:
            wrong.append(module)
    return wrong


OPS_FLOORS = {"runtime": 0, "kernels": 1}  # the folders of ops/; an op's own file: 2


def floor_in_ops(module):
    """runtime, then kernels, then the op files; None outside minidistil.ops."""
    parts = module.split(".")
    if parts[:2] != ["minidistil", "ops"]:
        return None
    return OPS_FLOORS.get(parts[2] if len(parts) > 2 else "", 2)


def misplaced_in_ops(module, modules):
    """Those of `modules` that lie in a higher folder of ops/ than `module`."""
    return [m for m in modules if (floor_in_ops(m) or 0) > floor_in_ops(module)]


MODULES = {module_of(path): path for path in FILES}


def within(tree):
    """The modules of the package that a file imports: of `from a import b`, a.b where it is one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def circle(arrows):
    """Modules that import each other in a circle; empty where there is none."""
    left = {name: set(targets) - {name} for name, targets in arrows.items()}
    while ends := {name for name, targets in left.items() if not targets & set(left)}:
        left = {name: targets for name, targets in left.items() if name not in ends}
    return sorted(left)


def test_no_module_imports_itself_through_others():
    arrows = {m: within(ast.parse(p.read_text(encoding="utf-8"))) for m, p in MODULES.items()}
    assert circle(arrows) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}), "a circle is not found"


def test_one_name_one_thing():
    """Two modules share a name only where they have the same role, each in its task's folder; two
    classes never do."""
    modules, classes = Counter(), Counter()
    for path in FILES:
        if path.parent.parent.name != "tasks" or path.stem not in ROLES:
            modules[path.stem] += path.stem not in ("__init__", "__main__")
        found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        classes.update(node.name for node in found if isinstance(node, ast.ClassDef))
    assert [name for name, times in modules.items() if times > 1] == []
    assert [name for name, times in classes.items() if times > 1] == []


def test_files_of_tests_have_names_of_their_own():
    """pytest imports them by their names alone: of two `test_backward.py`, one is not collected."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("*.py"))
    assert [name for name, times in names.items() if times > 1 and name != "conftest.py"] == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    part = part_of(path)
    if part is not None:
        assert part in FLOORS, f"{part} has no floor"
        assert misplaced(part, imports(tree)) == [], "imports go down"
    if part == "ops":
        wrong = misplaced_in_ops(module_of(path), imports(tree))
        assert wrong == [], "imports go from ops to ops/kernels to ops/runtime"
    outside = {module.split(".")[0] for module in imports(tree, everywhere=False)}
    assert not outside & FRAMEWORKS, "frameworks are imported inside the functions that need them"
    everywhere = {module.split(".")[0] for module in imports(tree)}
    assert part == "check" or not everywhere & PEERS, "check/ alone compares"
    assert part == "cli" or "matplotlib" not in everywhere, "the commands alone draw"
    if name_of(path) not in NUMBA:
        assert not everywhere & {"numba", "llvmlite"}, "these files alone import numba"
    lines = text.splitlines()
    assert len(lines) <= (PAGE if part == "distilbert" else LINES), "two ideas in one file?"
    assert max(map(len, lines), default=0) <= COLUMNS
    assert ast.get_docstring(tree), "a file says what it is"


def test_the_floors_bite():
    assert misplaced("ops", ["minidistil.model.rows"])
    assert misplaced("data", ["minidistil.model.rows"])
    assert misplaced("model", ["minidistil.ops.linear", "minidistil.model.rows", "numpy"]) == []
    kernel, op = "minidistil.ops.kernels.matmul", "minidistil.ops.gelu"
    assert misplaced_in_ops(kernel, [op]) == [op]
    assert misplaced_in_ops("minidistil.ops.runtime.arrays", [kernel]) == [kernel]
    assert misplaced_in_ops(op, [op, kernel, "minidistil.ops.runtime.cpu", "numpy"]) == []


WRITERS = {  # that leave half a file behind, or none, when the process is killed or the disk full
    "write_text", "write_bytes", "tofile", "save_file", "savez", "savez_compressed", "savetxt",
    "copyfile", "copy2", "copytree", "move", "rename", "renames", "touch", "mkdir", "makedirs",
    "rmtree", "unlink", "rmdir", "symlink_to", "fsync",
}  # fmt: skip
SAVERS = {"self", "self.run", "training_state", "tokenizer", "reader", "own"}  # `.save` of our own
OWN_WRITERS = {"io/files.py", "io/lock.py", "ops/runtime/kernel_cache.py"}  # the last may be lost
ALLOWED = {"CLEAR.write_text"}  # a file of /proc


def other_ways_to_write(tree):
    """What a file calls that changes the disk without `minidistil.io.files`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, name = called.rpartition(".")
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [x.value for x in values if isinstance(x, ast.Constant)]
        if name == "open" and owner in ("", "gzip", "io"):
            modes = [m for m in modes if isinstance(m, str) and set(m) <= set("rwaxbt+")]
            writes = any(set(m) & set("wax+") for m in modes)
        elif name == "savefig":
            writes = ast.unparse(node.args[0]) != "file"  # of `with files.writing(path) as file`
        elif name == "save":
            writes = bool(owner) and owner not in SAVERS
        else:
            writes = name in WRITERS and owner != "files"
        if writes:
            yield called


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_way_to_write(path):
    if name_of(path) in OWN_WRITERS:
        return
    found = set(other_ways_to_write(ast.parse(path.read_text(encoding="utf-8"))))
    assert found - ALLOWED == set(), "minidistil.io.files writes"


@pytest.mark.parametrize("line", [
    "open(path, 'w')", "(a / b).unlink()", "open(path, mode='ab')", "Path(a).write_text('x')",
    "np.save(path, x)",
    "np.savez(path, x=x)", "onnx.save(graph, path)", "save_file(tensors, path)",
    "figure.savefig(path)", "shutil.copyfile(a, b)", "os.rename(a, b)", "gzip.open(path, 'wt')",
])  # fmt: skip
def test_another_way_to_write_is_found(line):
    assert list(other_ways_to_write(ast.parse(line)))


def calls(files):
    """(compiled functions, those that compiled ones call, those that Python calls), (file, name).

    A compiled function is linked into its callers, where it is optimised once more.
    """
    compiled, inside, outside = set(), set(), set()
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        home = {node.name: path.stem for node in functions}
        for node in body:
            if isinstance(node, ast.ImportFrom):
                home |= {alias.name: node.module.split(".")[-1] for alias in node.names}
        for node in functions:
            parts = [x for decorator in node.decorator_list for x in ast.walk(decorator)]
            decorators = {x.id for x in parts if isinstance(x, ast.Name)}
            called = [x.func for x in ast.walk(node) if isinstance(x, ast.Call)]
            called = {x.id for x in called if isinstance(x, ast.Name)} & set(home)
            if decorators & COMPILED:
                compiled.add((path.stem, node.name))
            where = inside if decorators & {*COMPILED, "helper"} else outside
            where |= {(home[name], name) for name in called}
    return compiled, inside, outside


def test_a_compiled_function_is_called_by_kernels_or_by_python():
    """Its copy within a kernel may round otherwise, so one result would have two values."""
    compiled, inside, outside = calls(sorted((PACKAGE / "ops").rglob("*.py")))
    assert len(compiled & inside) > 10 and len(compiled & outside) > 15, "names are not found"
    assert sorted(compiled & inside & outside) == []


def test_every_compiled_function_has_the_library_and_the_cache_of_this_package():
    """Or is a helper, which is inlined always and has no machine code of its own."""
    from minidistil.ops.runtime.cpu import helper, kernel
    from minidistil.ops.runtime.kernel_cache import KernelCache
    from minidistil.ops.runtime.machine_code import Pipeline

    assert helper(lambda x: x).targetoptions["inline"] == "always"
    files = [p for p in FILES if "runtime.cpu import" in p.read_text("utf-8")]
    modules = [import_module(module_of(path)) for path in files]
    kind = type(kernel(lambda x: x))
    found = {x for module in modules for x in vars(module).values() if isinstance(x, kind)}
    assert len(found) > 60
    for function in found:
        if function.targetoptions.get("inline") != "always":
            assert function._compiler.pipeline_class is Pipeline, function
            assert isinstance(function._cache, KernelCache), function


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_have_docstrings(path):
    bare = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        told_elsewhere = (
            node.name.endswith(("_cpu", "_cuda", "_backward"))
            or (part_of(path) == "cli" and node.name == "run")
            or node.name.startswith("add_")  # options, whose help is shown to users
            or path.parent.name == "mistakes"  # the decorator's sentences are shown to users
        )
        if not told_elsewhere and not ast.get_docstring(node) and len(node.body) > 3:
            bare.append(node.name)
    assert bare == []


REFUSED = re.compile(  # words that readers stumbled over; each has a plain one
    r"\b(hears?|heard|whoever|nobody|somebody|strangers?|earns?|the door|likeliest|goes on|"
    r"(?:is|are) told|(?:has|have) a say|surprise|engine room|voices?)\b", re.I)  # fmt: skip
PAGES = [*sorted({*HOUSE.glob("*.md"), *HOUSE.glob("*/*.md"), *PACKAGE.rglob("*.md")}),
         *sorted((HOUSE / "notebooks").glob("*.py"))]  # fmt: skip


def prose_of(path):
    """(line, text) of what people read: comments and strings of code, all of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md" or path.parent.name == "notebooks":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: str(path.relative_to(HOUSE)))
def test_plain_words(path):
    found = [(line, word[0]) for line, text in prose_of(path) for word in REFUSED.finditer(text)]
    assert found == [], "see the field's terms"


def parameters(function):
    """How many arguments a function takes by place, without self."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


PUBLIC, PRIVATE = 7, 8
DEVICE = {"cuda_kernel", "device_function", "intrinsic"}  # whose arguments are numbers and arrays


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_few_parameters(path):
    """What travels together is one value; on a device and in an instruction there are none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    many = {
        node.name: parameters(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not {ast.unparse(decorator) for decorator in node.decorator_list} & DEVICE
        and parameters(node) > (PRIVATE if node.name.startswith("_") else PUBLIC)
    }
    assert many == {}


def defined(tree):
    """Names that a file defines: functions, classes, arguments and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_what_prose_refers_to_is_there():
    """`file.py` and "see `name`" point to a file or a name of the package."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    names = {name for tree in trees.values() for name in defined(tree)}
    names |= {part for module in MODULES for part in module.split(".")}
    files = {path.name for path in HOUSE.rglob("*.py")} | {capstone.FILE}  # the learner's own
    for path in [*FILES, *PAGES]:
        for line, text in prose_of(path):
            missing = {f for f in re.findall(r"`[\w/]*?(\w+\.py)`", text) if f not in files}
            missing |= {n for n in re.findall(r"\b[Ss]ee `(?:\w+\.)*(\w+)`", text)
                        if n not in names | {"py"}}  # fmt: skip
            assert not missing, f"{path.name}:{line}"


def test_readme_is_short():
    lines = (HOUSE / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150


def test_pages_point_to_what_is_there():
    for page in (p for p in PAGES if p.suffix == ".md"):
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("op", OPS)
def test_an_op_keeps_the_laws_of_its_signature(op):
    """forward(*differentiable, **fixed), backward(dy, cache), the same on every backend."""
    spec, cpu = (getattr(backend(name), op) for name in ("numpy", "cpu"))
    module = import_module(f"minidistil.ops.{op}")
    for kernels in (cpu.forward, module.forward_cuda):
        assert inspect.signature(spec.forward) == inspect.signature(kernels)
    for kernels in (cpu.backward, module.backward_cuda):
        assert inspect.signature(spec.backward) == inspect.signature(kernels)
    kinds = {p.kind for p in inspect.signature(spec.forward).parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    assert list(inspect.signature(spec.backward).parameters) == ["dy", "cache"]
    assert spec.forward.__doc__ and "->" in spec.forward.__doc__
    assert spec.backward.__doc__ and "->" in spec.backward.__doc__


def test_every_op_is_listed():
    files = {path.stem for path in (PACKAGE / "ops").glob("[!_]*.py")}
    assert files - NOT_OPS - NARROW_OPS == set(OPS)


def test_every_op_has_a_test_of_its_own():
    tests = {path.stem.removeprefix("test_") for path in (HOUSE / "tests" / "ops").glob("test_*")}
    assert {*OPS, *NARROW_OPS} <= tests


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"numpy, cpu, cuda, not 'tpu'"):
        backend("tpu")


def test_cuda_without_a_device_says_what_is_missing_and_how_to_simulate(monkeypatch):
    from minidistil.ops.runtime import cuda

    monkeypatch.setattr(cuda, "SIMULATED", False)
    if cuda.has_device():
        pytest.skip("there is a device")
    with pytest.raises(ValueError, match=r"minidistil\[cuda\].*NUMBA_ENABLE_CUDASIM=1"):
        backend("cuda")
    with pytest.raises(ValueError, match="float32, not bfloat16; matmul_precision"):
        backend("cuda", "bfloat16")


def test_the_wheel_holds_every_package():
    settings = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {
        ".".join(path.parent.relative_to(HOUSE).parts) for path in PACKAGE.rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == packages | {"minidistil.weights"}


def test_the_top_level_is_what_the_design_says():
    allowed = {"pyproject.toml", "README.md", "LICENSE", "minidistil", "tests", "notebooks",
               "weights", "runs", "build", "minidistil.egg-info"}  # fmt: skip
    assert {p.name for p in HOUSE.iterdir() if not p.name.startswith(".")} <= allowed
