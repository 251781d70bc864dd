"""Mistakes and correct alternatives for exercises/source/task2-memory/arithmetic-intensity.ipynb.

MISTAKES: function -> rows of (what the message must say, the code, what replaces it). The code is
replaced in the reference solution; where it is None, the replacement is a whole new function.
ALTERNATIVES: function -> whole functions that are right.
EQUIVALENT: function -> patterns of mechanical edits that change nothing that can be seen.
"""

NOTEBOOK = "task2-memory/arithmetic-intensity.ipynb"

PROBLEMS = {
    "1 linear map": ("linear_elements", "linear_cost", "linear_intensity"),
    "2 attention": ("attention_elements", "attention_costs", "attention_intensity"),
    "3 roofline": ("roofline", "sequence_time", "compute_bound_batch"),
    "4 limits": ("linear_limits", "attention_limits", "bounds"),
}

# An object that claims to be equal to everything, and to be a number.
EVERYTHING = """
class Everything:
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __float__(self): return 1.0
    @property
    def __class__(self): return float
"""

# A number that claims to be equal to all others.
AGREEABLE = """
class Agreeable(float):
    def __eq__(self, other): return True
    def __hash__(self): return 0
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
    def __float__(self): return 1.0
"""

X, W, Y = '"X": rows * d_in', '"W": d_in * d_out', '"Y": rows * d_out'
READ = 'elements["X"] + elements["W"]'
BYTES = 'cost["bytes_read"] + cost["bytes_written"]'
DECODE_ROWS = '"decode": batch_size}'
MODE_CHECK = """    if mode not in rows_of:
        raise ValueError(f"mode must be one of {list(rows_of)}, got {mode!r}")
"""
QUERY = "query = batch_size * num_attention_heads * queries * head_dim"
KEY = "key = batch_size * num_key_value_heads * keys * head_dim"
SCORE = "score = batch_size * num_attention_heads * queries * keys"
ELEMENTS = '{"Q": query, "K": key, "S": score, "P": score, "V": key, "O": query}'
SCORES_LINE = '"scores": cost("QK", "S", product)'
SOFTMAX_LINE = '"softmax": cost("S", "P", 5 * elements["S"])'
SUM_LINE = '"weighted_sum": cost("PV", "O", product)'
PRODUCT = 'product = 2 * elements["S"] * head_dim'
TOGETHER = 'flops["together"], moved["together"] = sum(flops.values()), sum(moved.values())'
RATIOS = "return {name: flops[name] / moved[name] for name in flops}"
SECONDS = "seconds = max(computing, moving)"
BOUND = '"bound": "compute" if computing >= moving else "memory"'
SPEED = '"flops_per_second": flops / seconds'
SHARE = "share = waiting / seconds if seconds else 0.0"
WAITING = 'result["seconds"] for result in results if result["bound"] == "memory"'
ROOM = "reciprocal = 2 / (bytes_per_element * ridge) - 1 / d_in - 1 / d_out"
ROUNDED = "return math.ceil(1 / reciprocal) if reciprocal > 0 else math.inf"
LONG = '"prefill_long": hidden_size / bytes_per_element'
LARGE = '"decode_large_batch": hidden_size / bytes_per_element'
WIDE = '"decode_wide": 2 * batch_size / bytes_per_element'
A_LONG = '"prefill_long": 2 * head_dim / bytes_per_element'
A_DECODE = '"decode_long": flops / (bytes_per_element * one_key)'
A_BATCH = (
    '"decode_large_batch": flops * seq_len / (bytes_per_element * (queries + one_key * seq_len))'
)
A_FUSED = '"fused_prefill_long": math.inf'
ONE_KEY = "one_key = num_key_value_heads * head_dim + num_attention_heads"
SIDES = '"compute" if value >= ridge else "memory"'
A_COSTS = """        batch_size=batch_size,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
        queries=queries_of[mode],
        keys=seq_len,"""

MISTAKES = {
    "linear_elements": [
        ("tokens does not enter", W, '"W": rows * d_in * d_out'),
        ("shape of X; W goes", W, '"W": rows * d_in'),
        ("shape of Y; W goes", W, '"W": rows * d_out'),
        ("one row per token", X, '"X": d_in * d_out'),
        ("one row per token", Y, '"Y": d_in * d_out'),
        ("changed places", f"{X}, {W}, {Y}", f'"X": rows * d_out, {W}, "Y": rows * d_in'),
        ("count all rows", X, '"X": d_in'),
        ("count all rows", Y, '"Y": d_out'),
        ("do not add", W, '"W": d_in + d_out'),
        ("bytes come in the next part", X, '"X": 2 * rows * d_in'),
        ("lacks 'Y'", f", {Y}", ""),
        ("nobody asked for", Y, f'{Y}, "B": d_out'),
        ("a `return` missing", "return {", "answer = {"),
        ("dictionary with 'X'", "{" + f"{X}, {W}, {Y}" + "}", "[rows * d_in]"),
        ("of type bool", X, '"X": True'),
        ("of type str", X, '"X": str(rows * d_in)'),
        ("finite", X, '"X": float("nan")'),
        ("finite", X, '"X": float("inf")'),
    ],
    "linear_cost": [
        ("leaves out the weights W", READ, 'elements["X"]'),
        ("leaves out the input X", READ, 'elements["W"]'),
        ("also counts the output Y", READ, f'{READ} + elements["Y"]'),
        ("counts twice the weights W", READ, f'{READ} + elements["W"]'),
        ("once for all rows", READ, 'elements["X"] + rows * elements["W"]'),
        ("also counts the input X", '* elements["Y"]', '* (elements["X"] + elements["Y"])'),
        ("multiply by bytes_per_element", f"bytes_per_element * ({READ})", READ),
        ("multiply by bytes_per_element", 'bytes_per_element * elements["Y"]', 'elements["Y"]'),
        ("whatever bytes_per_element is", f"bytes_per_element * ({READ})", f"2 * ({READ})"),
        ("these are bits", f"bytes_per_element * ({READ})", f"8 * bytes_per_element * ({READ})"),
        (
            "leaves out the weights W; these are elements",
            f"bytes_per_element * ({READ})",
            'elements["X"]',
        ),
        ("multiply-add as one FLOP", "2 * rows * d_in * d_out", "rows * d_in * d_out"),
        ("4 FLOPs", "2 * rows * d_in * d_out", "4 * rows * d_in * d_out"),
        ("not depend on bytes_per_element", "2 * rows", "2 * bytes_per_element * rows"),
        ("not depend on bytes_per_element", "2 * rows", "bytes_per_element * rows"),
        ("d_in is missing", "2 * rows * d_in * d_out", "2 * rows * d_out"),
        ("d_out is missing", "2 * rows * d_in * d_out", "2 * rows * d_in"),
        ("rows is missing", "2 * rows * d_in * d_out", "2 * d_in * d_out"),
        ("added to zero", "2 * rows * d_in * d_out", "rows * d_out * (2 * d_in - 1)"),
        (
            "changed places",
            None,
            """
def linear_cost(*, rows, d_in, d_out, bytes_per_element):
    return {
        "bytes_read": bytes_per_element * rows * d_out,
        "bytes_written": bytes_per_element * (rows * d_in + d_in * d_out),
        "flops": 2 * rows * d_in * d_out,
    }
""",
        ),
        ("lacks 'bytes_written'", '"bytes_written"', '"bytes_wrote"'),
        ("of type str", "2 * rows * d_in * d_out", 'f"{2 * rows * d_in * d_out}"'),
        ("raised TypeError", "def linear_cost(*, rows,", "def linear_cost(*, tokens,"),
        ("raised NameError", "2 * rows * d_in * d_out", "2 * n * d_in * d_out"),
    ],
    "linear_intensity": [
        ("b rows, not b t", DECODE_ROWS, '"decode": batch_size * seq_len}'),
        ("all tokens through at once", "batch_size * seq_len", "batch_size"),
        (
            "training's forward pass is prefill's",
            '"train": batch_size * seq_len',
            '"train": batch_size',
        ),
        (
            "the batch is missing",
            None,
            """
def linear_intensity(*, mode, batch_size, seq_len, d_in, d_out, bytes_per_element):
    if mode not in ("train", "prefill", "decode"):
        raise ValueError(mode)
    n = 1 if mode == "decode" else seq_len
    return 2 / bytes_per_element / (1 / n + 1 / d_in + 1 / d_out)
""",
        ),
        ("for each of the b sequences", DECODE_ROWS, '"decode": 1}'),
        ("not the t tokens so far", DECODE_ROWS, '"decode": seq_len}'),
        ("not b + t", "batch_size * seq_len", "(batch_size + seq_len)"),
        ("upside down", f'cost["flops"] / ({BYTES})', f'({BYTES}) / cost["flops"]'),
        ("one FLOP", 'cost["flops"] /', 'cost["flops"] / 2 /'),
        ("FLOPs per element", "bytes_per_element=bytes_per_element", "bytes_per_element=1"),
        (
            "whatever bytes_per_element is",
            "bytes_per_element=bytes_per_element",
            "bytes_per_element=2",
        ),
        ("leaves out the output Y", BYTES, 'cost["bytes_read"]'),
        ("leaves out the input X and the weights W", BYTES, 'cost["bytes_written"]'),
        (
            "leaves out the weights W",
            None,
            """
def linear_intensity(*, mode, batch_size, seq_len, d_in, d_out, bytes_per_element):
    if mode not in ("train", "prefill", "decode"):
        raise ValueError(mode)
    n = batch_size * (1 if mode == "decode" else seq_len)
    return 2 * n * d_in * d_out / (bytes_per_element * n * (d_in + d_out))
""",
        ),
        ("is rounded", 'cost["flops"] /', 'cost["flops"] //'),
        ("raises ValueError", MODE_CHECK, '    mode = mode if mode in rows_of else "decode"\n'),
        ("raises ValueError", MODE_CHECK, ""),
        ("raised ValueError", '"train": batch_size * seq_len, ', ""),
        ("A Python int or float", 'return cost["flops"]', 'return mode, cost["flops"]'),
        (
            "of type Everything",
            None,
            EVERYTHING
            + """
def linear_intensity(*, mode, **sizes):
    if mode not in ("train", "prefill", "decode"):
        raise ValueError(mode)
    return Everything()
""",
        ),
        (
            "expected",
            None,
            AGREEABLE
            + """
def linear_intensity(*, mode, **sizes):
    if mode not in ("train", "prefill", "decode"):
        raise ValueError(mode)
    return Agreeable(3.0)
""",
        ),
    ],
    "attention_elements": [
        (
            "grows with the attention heads",
            KEY,
            "key = batch_size * num_attention_heads * keys * head_dim",
        ),
        (
            "grows with the attention heads",
            ELEMENTS,
            ELEMENTS.replace('"V": key', '"V": key * num_attention_heads // num_key_value_heads'),
        ),
        (
            "the size of a group",
            KEY,
            "key = batch_size * (num_attention_heads // num_key_value_heads) * keys * head_dim",
        ),
        ("not one", KEY, "key = batch_size * keys * head_dim"),
        (
            "so has the output",
            QUERY,
            "query = batch_size * num_key_value_heads * queries * head_dim",
        ),
        ("its own scores", SCORE, "score = batch_size * num_key_value_heads * queries * keys"),
        ("the batch is missing", SCORE, "score = num_attention_heads * queries * keys"),
        ("the batch is missing", KEY, "key = num_key_value_heads * keys * head_dim"),
        ("the heads are missing", SCORE, "score = batch_size * queries * keys"),
        ("head_dim is missing", QUERY, "query = batch_size * num_attention_heads * queries"),
        ("summed away", SCORE, f"{SCORE} * head_dim"),
        ("queries x keys", SCORE, "score = batch_size * num_attention_heads * keys"),
        ("not keys x keys", SCORE, "score = batch_size * num_attention_heads * keys * keys"),
        ("not queries x queries", SCORE, "score = batch_size * num_attention_heads * queries ** 2"),
        ("row for each key", KEY, "key = batch_size * num_key_value_heads * queries * head_dim"),
        ("row for each query", QUERY, "query = batch_size * num_attention_heads * keys * head_dim"),
        ("causal mask", SCORE, f"{SCORE} / 2"),
        ("count each once", '"K": key', '"K": 2 * key'),
        ("lacks 'P'", '"P": score, ', ""),
        (
            "so has the output",
            '"O": query',
            '"O": query * num_key_value_heads // num_attention_heads',
        ),
    ],
    "attention_costs": [
        ("leaves out the keys K", SCORES_LINE, SCORES_LINE.replace("QK", "Q")),
        ("leaves out the queries Q", SCORES_LINE, SCORES_LINE.replace("QK", "K")),
        ("also counts the scores S", SCORES_LINE, SCORES_LINE.replace("QK", "QKS")),
        ("leaves out the values V", SUM_LINE, SUM_LINE.replace("PV", "P")),
        ("leaves out the weights P", SUM_LINE, SUM_LINE.replace("PV", "V")),
        ("counts twice", SUM_LINE, SUM_LINE.replace("PV", "PVV")),
        ("also counts the queries Q", SCORES_LINE, SCORES_LINE.replace('"S"', '"Q"')),
        ("multiply by bytes_per_element", "bytes_per_element * sum(", "sum("),
        ("whatever bytes_per_element is", "bytes_per_element * elements", "2 * elements"),
        ("counts 1 FLOPs per score", "5 * elements", "elements"),
        ("counts 3 FLOPs per score", "5 * elements", "3 * elements"),
        ("is no product", SOFTMAX_LINE, '"softmax": cost("S", "P", product)'),
        ("head_dim does not enter", "5 * elements", "5 * head_dim * elements"),
        ("one FLOP", PRODUCT, PRODUCT.replace("2 * ", "")),
        ("not 4", PRODUCT, PRODUCT.replace("2 * ", "4 * ")),
        ("sums head_dim products", PRODUCT, 'product = 2 * elements["S"]'),
        ("not depend on bytes_per_element", PRODUCT, f"{PRODUCT} * bytes_per_element"),
        (
            "num_key_value_heads, each read once",
            "num_key_value_heads=num_key_value_heads",
            "num_key_value_heads=num_attention_heads",
        ),
        ("not one", "num_key_value_heads=num_key_value_heads", "num_key_value_heads=1"),
        ("its own scores", PRODUCT, f"{PRODUCT} * num_key_value_heads // num_attention_heads"),
        ("the batch is missing", PRODUCT, f"{PRODUCT} // batch_size"),
        ("causal mask", PRODUCT, f"{PRODUCT} / 2\n    elements['S'] /= 2"),
        (
            "on the chip",
            SOFTMAX_LINE,
            '"softmax": {"bytes_read": 0, "bytes_written": 0, "flops": 5 * elements["S"]}',
        ),
        (
            "changed places",
            SCORES_LINE,
            '"scores": {"bytes_read": bytes_per_element * '
            'elements["S"], "bytes_written": bytes_per_element * (elements["Q"] + elements["K"]), '
            '"flops": product}',
        ),
        ("not keys x keys", PRODUCT, f"{PRODUCT} * keys // queries"),
        ("lacks 'weighted_sum'", '"weighted_sum"', '"weighted sum"'),
        ("'softmax': ", SOFTMAX_LINE, '"softmax": 5 * elements["S"]'),
    ],
    "attention_intensity": [
        ("one query per sequence, not t", '"decode": 1}', '"decode": seq_len}'),
        (
            "t queries per sequence, not one",
            '"train": seq_len, "prefill": seq_len',
            '"train": 1, "prefill": 1',
        ),
        ("training's forward pass is prefill's", '"train": seq_len', '"train": 1'),
        ("not itself alone", "keys=seq_len", "keys=queries_of[mode]"),
        ("not one more", "keys=seq_len", 'keys=seq_len + (mode == "decode")'),
        ("not one fewer", "keys=seq_len", 'keys=seq_len - (mode == "decode")'),
        (
            "num_key_value_heads, each read once",
            "num_key_value_heads=num_key_value_heads",
            "num_key_value_heads=num_attention_heads",
        ),
        (
            "do not add up",
            RATIOS,
            """ratios = {name: flops[name] / moved[name] for name in flops}
    return {**ratios, "together": sum(ratios.values()) - ratios["together"]}""",
        ),
        (
            "mean of the intensities",
            RATIOS,
            """ratios = {n: flops[n] / moved[n] for n in flops}
    return {**ratios, "together": (sum(ratios.values()) - ratios["together"]) / 3}""",
        ),
        (
            "the lowest of the three",
            RATIOS,
            """ratios = {n: flops[n] / moved[n] for n in costs}
    return {**ratios, "together": min(ratios.values())}""",
        ),
        (
            "the highest of the three",
            RATIOS,
            """ratios = {n: flops[n] / moved[n] for n in costs}
    return {**ratios, "together": max(ratios.values())}""",
        ),
        (
            "FLOPs of the softmax are missing",
            TOGETHER,
            f'{TOGETHER}\n    flops["together"] -= flops["softmax"]',
        ),
        (
            "bytes of the softmax are missing",
            TOGETHER,
            f'{TOGETHER}\n    moved["together"] -= moved["softmax"]',
        ),
        (
            "its FLOPs and its bytes",
            TOGETHER,
            f"{TOGETHER}\n    "
            'flops["together"] -= flops["softmax"]\n    moved["together"] -= moved["softmax"]',
        ),
        (
            "on the chip",
            TOGETHER,
            f'{TOGETHER}\n    moved["together"] = moved["scores"] + '
            'moved["weighted_sum"] - moved["softmax"]',
        ),
        ("upside down", RATIOS, "return {name: moved[name] / flops[name] for name in flops}"),
        (
            "leaves out the scores S",
            'cost["bytes_read"] + cost["bytes_written"]',
            'cost["bytes_read"]',
        ),
        ("FLOPs per element", "bytes_per_element=bytes_per_element", "bytes_per_element=1"),
        (
            "whatever bytes_per_element is",
            "bytes_per_element=bytes_per_element",
            "bytes_per_element=2",
        ),
        (
            "raises ValueError",
            """    if mode not in queries_of:
        raise ValueError(f"mode must be one of {list(queries_of)}, got {mode!r}")
""",
            "",
        ),
        ("one FLOP", 'cost["flops"] for', 'cost["flops"] / 2 for'),
        ("of type Everything", RATIOS, "return {name: Everything() for name in flops}"),
        ("lacks 'together'", f"    {TOGETHER}\n", ""),
    ],
    "roofline": [
        ("not their sum", SECONDS, "seconds = computing + moving"),
        ("not their mean", SECONDS, "seconds = (computing + moving) / 2"),
        ("not the faster", SECONDS, "seconds = min(computing, moving)"),
        ("only the FLOPs are counted", SECONDS, "seconds = computing"),
        ("only the bytes are counted", SECONDS, "seconds = moving"),
        (
            "not the other way round",
            "flops / peak_flops, bytes_moved / bandwidth",
            "flops / bandwidth, bytes_moved / peak_flops",
        ),
        ("milliseconds", '"seconds": seconds', '"seconds": 1000 * seconds'),
        ("microseconds", '"seconds": seconds', '"seconds": 1e6 * seconds'),
        (
            "not speed divided by work",
            '"seconds": seconds',
            '"seconds": max(1 / computing, 1 / moving)',
        ),
        ("changed places", BOUND, BOUND.replace(">=", "<")),
        ("at the ridge", BOUND, BOUND.replace(">=", ">")),
        ("not with 1", BOUND, '"bound": "compute" if flops >= bytes_moved else "memory"'),
        (
            "the words are",
            BOUND,
            '"bound": "compute-bound" if computing >= moving else "memory-bound"',
        ),
        (
            "in small letters",
            BOUND,
            BOUND.replace('compute"', 'COMPUTE"').replace('"memory"', '"MEMORY"'),
        ),
        ("A string is expected", BOUND, '"bound": computing >= moving'),
        ("only where it is compute-bound", SPEED, '"flops_per_second": peak_flops'),
        (
            "reaches the peak and not more",
            SPEED,
            '"flops_per_second": flops / bytes_moved * bandwidth',
        ),
        ("slanted roof", SPEED, '"flops_per_second": flops / bytes_moved * peak_flops'),
        (
            "the lower one counts",
            SPEED,
            '"flops_per_second": max(peak_flops, flops / bytes_moved * bandwidth)',
        ),
        ("that is the intensity", SPEED, '"flops_per_second": flops / bytes_moved'),
        ("share of the peak", SPEED, '"flops_per_second": flops / seconds / peak_flops'),
        ("bytes per second", SPEED, '"flops_per_second": bytes_moved / seconds'),
        ("lacks 'bound'", f"        {BOUND},\n", ""),
    ],
    "sequence_time": [
        (
            "adding all FLOPs and all bytes first",
            None,
            """
def sequence_time(*, operators, peak_flops, bandwidth):
    computing = sum(f for f, _ in operators) / peak_flops
    moving = sum(m for _, m in operators) / bandwidth
    seconds = float(max(computing, moving))
    return {"seconds": seconds, "memory_bound_share": float(moving > computing)}
""",
        ),
        (
            "do not take the longest",
            "float(seconds)",
            'float(max((r["seconds"] for r in results), default=0))',
        ),
        (
            "take the slower, not the sum",
            None,
            """
def sequence_time(*, operators, peak_flops, bandwidth):
    times = [(f / peak_flops, m / bandwidth) for f, m in operators]
    seconds = float(sum(c + m for c, m in times))
    waiting = sum(c + m for c, m in times if m > c)
    return {"seconds": seconds, "memory_bound_share": waiting / seconds if seconds else 0.0}
""",
        ),
        (
            "only the time for computing",
            "float(seconds)",
            "sum(f for f, _ in operators) / peak_flops",
        ),
        ("only the time for moving", "float(seconds)", "sum(m for _, m in operators) / bandwidth"),
        ("that is the mean", "float(seconds)", "seconds / max(len(results), 1)"),
        (
            "not the faster",
            "float(seconds)",
            "float(sum(min(f / peak_flops, m / bandwidth) for f, m in operators))",
        ),
        ("milliseconds", "float(seconds)", "1000.0 * seconds"),
        (
            "share of the operators",
            SHARE,
            'share = sum(r["bound"] == "memory" for r in results) / max(len(results), 1)',
        ),
        (
            "share of the bytes",
            SHARE,
            "share = sum(m for f, m in operators if "
            "m / bandwidth > f / peak_flops) / max(sum(m for _, m in operators), 1)",
        ),
        ("compute-bound operators", WAITING, WAITING.replace("memory", "compute")),
        ("divide the memory-bound ones", SHARE, "share = waiting"),
        ("percentage", SHARE, SHARE.replace("waiting /", "100 * waiting /")),
        (
            "count whole operators",
            SHARE,
            "share = sum(m for _, m in operators) / bandwidth / seconds if seconds else 0.0",
        ),
        (
            "at the ridge",
            None,
            """
def sequence_time(*, operators, peak_flops, bandwidth):
    times = [(f / peak_flops, m / bandwidth) for f, m in operators]
    seconds = float(sum(map(max, times)))
    waiting = sum(m for c, m in times if m >= c)
    return {"seconds": seconds, "memory_bound_share": waiting / seconds if seconds else 0.0}
""",
        ),
        ("last operator is missing", "in operators", "in operators[:-1]"),
        ("first operator is missing", "in operators", "in operators[1:]"),
        ("raised ZeroDivisionError", SHARE, "share = waiting / seconds"),
        ("`return` missing", "return {", "answer = {"),
    ],
    "compute_bound_batch": [
        ("one sequence less", ROUNDED, ROUNDED.replace("math.ceil", "math.floor")),
        ("rounding to the nearest", ROUNDED, ROUNDED.replace("math.ceil", "round")),
        ("one sequence too many", ROUNDED, ROUNDED.replace("math.ceil(", "1 + math.ceil(")),
        ("whole number of sequences", ROUNDED, ROUNDED.replace("math.ceil", "float")),
        ("that is the ridge", ROUNDED, "return math.ceil(ridge)"),
        ("1/d_in and 1/d_out are missing", ROOM, "reciprocal = 2 / (bytes_per_element * ridge)"),
        ("1/d_out is missing", ROOM, ROOM.replace(" - 1 / d_out", "")),
        ("1/d_in is missing", ROOM, ROOM.replace(" - 1 / d_in", "")),
        ("whatever bytes_per_element is", ROOM, ROOM.replace("bytes_per_element", "2")),
        ("bytes_per_element is missing", ROOM, ROOM.replace("bytes_per_element * ", "")),
        ("one FLOP", ROOM, ROOM.replace("= 2 /", "= 1 /")),
        ("not 4", ROOM, ROOM.replace("= 2 /", "= 4 /")),
        ("d_out is missing", ROOM, ROOM.replace("1 / d_out", "1 / d_in")),
        ("d_in is missing", ROOM, ROOM.replace("1 / d_in", "1 / d_out")),
        ("upside down", "peak_flops / bandwidth", "bandwidth / peak_flops"),
        ("not a negative number", ROUNDED, "return math.ceil(1 / reciprocal)"),
        ("not 0", ROUNDED, ROUNDED.replace("math.inf", "0")),
        ("not -1", ROUNDED, ROUNDED.replace("math.inf", "-1")),
        ("None", ROUNDED, ROUNDED.replace("math.inf", "None")),
        ("gives up", ROUNDED, "return math.inf"),
        (
            "finite number is expected",
            ROUNDED,
            f"if reciprocal < 1 / 200:\n        return math.inf\n    {ROUNDED}",
        ),
    ],
    "linear_limits": [
        ("X and Y dominate, and each of their elements", LONG, '"prefill_long": math.inf'),
        ("X and Y dominate, and each of their elements", LARGE, '"decode_large_batch": math.inf'),
        ("each weight serves b rows", WIDE, '"decode_wide": math.inf'),
        ("the rows grow", LONG, '"prefill_long": 2 * batch_size / bytes_per_element'),
        ("the rows grow", LARGE, '"decode_large_batch": 2 * batch_size / bytes_per_element'),
        ("the matrix grows", WIDE, '"decode_wide": hidden_size / bytes_per_element'),
        (
            "at these sizes",
            WIDE,
            '"decode_wide": 2 * batch_size * hidden_size / '
            "(bytes_per_element * (2 * batch_size + hidden_size))",
        ),
        (
            "at these sizes",
            LARGE,
            '"decode_large_batch": 2 * batch_size * hidden_size / '
            "(bytes_per_element * (2 * batch_size + hidden_size))",
        ),
        ("does not vanish", LONG, '"prefill_long": 0'),
        ("leaves out", LONG, LONG.replace("hidden_size", "2 * hidden_size")),
        ("the batch is missing", WIDE, '"decode_wide": 2 / bytes_per_element'),
        ("serves b rows", WIDE, '"decode_wide": 1'),
        ("one FLOP", LONG, LONG.replace("hidden_size", "hidden_size / 2")),
        ("one FLOP", WIDE, '"decode_wide": batch_size / bytes_per_element'),
        ("FLOPs per element", WIDE, '"decode_wide": 2 * batch_size'),
        ("whatever bytes_per_element is", WIDE, '"decode_wide": batch_size'),
        ("whatever bytes_per_element is", LONG, '"prefill_long": hidden_size / 2'),
        ("sympy", WIDE, '"decode_wide": __import__("sympy").Integer(2) * batch_size'),
    ],
    "attention_limits": [
        ("serves only h multiply-adds", A_LONG, '"prefill_long": math.inf'),
        ("brings its own bytes", A_DECODE, '"decode_long": math.inf'),
        ("keys of its own", A_BATCH, '"decode_large_batch": math.inf'),
        (
            "num_key_value_heads is missing",
            ONE_KEY,
            "one_key = num_attention_heads * head_dim + num_attention_heads",
        ),
        (
            "groups do not enter",
            A_LONG,
            '"prefill_long": 2 * head_dim * num_attention_heads '
            "/ num_key_value_heads / bytes_per_element",
        ),
        ("intensity at this t", A_DECODE, A_BATCH.replace("decode_large_batch", "decode_long")),
        (
            "intensity at this t",
            A_LONG,
            '"prefill_long": flops * seq_len / (bytes_per_element * '
            "(queries + num_key_value_heads * head_dim + num_attention_heads * seq_len))",
        ),
        ("here t stays", A_BATCH, '"decode_large_batch": flops / (bytes_per_element * one_key)'),
        (
            "that is the limit of prefill",
            A_DECODE,
            '"decode_long": 2 * head_dim / bytes_per_element',
        ),
        ("it cancels", A_BATCH, A_BATCH.replace("flops *", "batch_size * flops *")),
        ("leaves out the scores S", ONE_KEY, "one_key = num_key_value_heads * head_dim"),
        (
            "leaves out the scores S",
            A_DECODE,
            '"decode_long": 2 * num_attention_heads / num_key_value_heads / bytes_per_element',
        ),
        ("a group of query heads shares them", A_DECODE, '"decode_long": 2 / bytes_per_element'),
        ("here t stays", A_BATCH, A_BATCH.replace("queries + ", "0 + ")),
        ("leaves out the keys K", ONE_KEY, "one_key = num_attention_heads"),
        (
            "nothing of size t x t",
            A_FUSED,
            '"fused_prefill_long": 2 * head_dim / bytes_per_element',
        ),
        ("FLOPs grow at least as fast", A_FUSED, '"fused_prefill_long": 0'),
        ("intensity at this t", A_FUSED, '"fused_prefill_long": seq_len / bytes_per_element'),
        ("one FLOP", "flops = 2 *", "flops ="),
        ("one FLOP", A_LONG, '"prefill_long": head_dim / bytes_per_element'),
        ("FLOPs per element", A_LONG, '"prefill_long": 2 * head_dim'),
        ("whatever bytes_per_element is", A_LONG, '"prefill_long": head_dim'),
        ("lacks 'fused_prefill_long'", f"        {A_FUSED},\n", ""),
        ("finite", A_DECODE, '"decode_long": math.nan'),
    ],
    "bounds": [
        ("changed places", SIDES, SIDES.replace(">=", "<")),
        ("ridge is upside down", "peak_flops / bandwidth", "bandwidth / peak_flops"),
        (
            "not with one fixed number",
            "ridge = peak_flops / bandwidth",
            "ridge = 312e12 / 2.039e12",
        ),
        (
            "not only on mode and operator",
            None,
            """
def bounds(*, mode, **sizes):
    maps = dict.fromkeys(["query", "key", "value", "output", "up", "down"], "compute")
    kernels = dict.fromkeys(["scores", "softmax", "weighted_sum"], "memory")
    return dict.fromkeys({**maps, **kernels}, "memory") if mode == "decode" else {**maps, **kernels}
""",
        ),
        ("one token per sequence", '"mode": mode', '"mode": "prefill"'),
        ("all t tokens", '"mode": mode', '"mode": "decode"'),
        ("prefill's", '"mode": mode', '"mode": "decode" if mode == "train" else mode'),
        ("the batch is missing", '"batch_size": batch_size', '"batch_size": 1'),
        (
            "with grouped-query attention",
            "num_key_value_heads=num_key_value_heads",
            "num_key_value_heads=num_attention_heads",
        ),
        ("narrower than the queries", '"key": (hidden_size, key)', '"key": (hidden_size, query)'),
        ("not to d", '"value": (hidden_size, key)', '"value": (hidden_size, hidden_size)'),
        ("may differ", '"query": (hidden_size, query)', '"query": (hidden_size, hidden_size)'),
        ("may differ", '"output": (query, hidden_size)', '"output": (query, query)'),
        (
            "not always 4 d",
            '"up": (hidden_size, intermediate_size)',
            '"up": (hidden_size, 4 * hidden_size)',
        ),
        ("not d", '"down": (intermediate_size, hidden_size)', '"down": (hidden_size, hidden_size)'),
        ("whatever bytes_per_element is", "= bytes_per_element", "= 2"),
        ("one FLOP", "ridge = peak_flops", "ridge = 2 * peak_flops"),
        (
            "two elements",
            "intensities |= ",
            'attention["softmax"] = 1 / (2 * bytes_per_element)\n    intensities |= ',
        ),
        (
            "where the ridge is low",
            "for name, value in intensities.items()}",
            'for name, value in intensities.items()} | {"softmax": "memory"}',
        ),
        (
            "on the chip",
            "intensities |= ",
            "moved = 2 * bytes_per_element * batch_size * head_dim\n"
            '    rows = 1 if mode == "decode" else seq_len\n'
            "    moved *= num_attention_heads * rows + num_key_value_heads * seq_len\n"
            "    scores = batch_size * num_attention_heads * rows * seq_len\n"
            "    attention = dict.fromkeys(attention, scores * (4 * head_dim + 5) / moved)\n"
            "    intensities |= ",
        ),
        ("lacks 'softmax'", ', "softmax", "weighted_sum"', ', "weighted_sum"'),
        ("of type bool", SIDES, "value >= ridge"),
    ],
}

ALTERNATIVES = {
    "linear_elements": [
        """
def linear_elements(*, rows, d_in, d_out):
    shapes = {"Y": (rows, d_out), "W": (d_in, d_out), "X": (rows, d_in)}
    return {name: math.prod(shape) for name, shape in shapes.items()}
""",
        """
def linear_elements(*, rows, d_in, d_out):
    return dict(X=float(rows * d_in), W=float(d_in * d_out), Y=float(rows * d_out))
""",
        """
import torch
def linear_elements(*, rows, d_in, d_out):
    x, w = torch.empty(rows, d_in), torch.empty(d_in, d_out)
    return {"X": x.numel(), "W": w.numel(), "Y": (x @ w).numel()}
""",
    ],
    "linear_cost": [
        """
def linear_cost(*, rows, d_in, d_out, bytes_per_element):
    s = bytes_per_element
    return {
        "flops": d_in * (rows * d_out + rows * d_out),
        "bytes_written": rows * d_out * s,
        "bytes_read": d_in * (rows + d_out) * s,
    }
""",
        """
from collections import OrderedDict
def linear_cost(rows, d_in, d_out, bytes_per_element=2):
    answer = OrderedDict()
    answer["bytes_read"] = sum(bytes_per_element * n for n in (rows * d_in, d_in * d_out))
    answer["bytes_written"] = rows * d_out * bytes_per_element
    answer["flops"] = 2.0 * rows * d_in * d_out
    return answer
""",
    ],
    "linear_intensity": [
        """
def linear_intensity(*, mode, batch_size, seq_len, d_in, d_out, bytes_per_element):
    if mode not in {"train", "prefill", "decode"}:
        raise ValueError("unknown mode")
    rows = batch_size if mode == "decode" else batch_size * seq_len
    return 2 / (bytes_per_element * (1 / rows + 1 / d_in + 1 / d_out))
""",
        """
import numpy as np
def linear_intensity(mode, batch_size, seq_len, d_in, d_out, bytes_per_element):
    rows = {"train": seq_len, "prefill": seq_len, "decode": 1}.get(mode)
    if rows is None:
        raise ValueError(mode)
    n = np.float64(batch_size * rows)
    return 2 * n * d_in * d_out / bytes_per_element / (n * d_in + d_in * d_out + n * d_out)
""",
        """
class UnknownMode(ValueError):
    pass
def linear_intensity(*, mode, batch_size, seq_len, **rest):
    if mode == "decode":
        seq_len = 1
    elif mode not in ("train", "prefill"):
        raise UnknownMode(mode)
    cost = linear_cost(rows=batch_size * seq_len, **rest)
    return cost["flops"] / sum(cost[key] for key in cost if key != "flops")
""",
    ],
    "attention_elements": [
        """
def attention_elements(
    *, batch_size, num_attention_heads, num_key_value_heads, queries, keys, head_dim
):
    b, a, k, h = batch_size, num_attention_heads, num_key_value_heads, head_dim
    return {
        "K": b * k * keys * h, "V": b * keys * k * h, "Q": b * queries * a * h,
        "S": b * a * queries * keys, "P": a * keys * queries * b, "O": a * b * h * queries,
    }
""",
        """
import torch
def attention_elements(
    *, batch_size, num_attention_heads, num_key_value_heads, queries, keys, head_dim
):
    make = lambda *shape: torch.empty(shape, device="meta").numel()
    q = make(batch_size, num_attention_heads, queries, head_dim)
    k = make(batch_size, num_key_value_heads, keys, head_dim)
    s = make(batch_size, num_attention_heads, queries, keys)
    return {"Q": q, "K": k, "S": s, "P": s, "V": k, "O": q}
""",
    ],
    "attention_costs": [
        """
def attention_costs(
    batch_size, num_attention_heads, num_key_value_heads, queries, keys, head_dim,
    bytes_per_element,
):
    q = batch_size * num_attention_heads * queries * head_dim * bytes_per_element
    k = batch_size * num_key_value_heads * keys * head_dim * bytes_per_element
    s = batch_size * num_attention_heads * queries * keys * bytes_per_element
    flops = s / bytes_per_element * 2 * head_dim
    return {
        "scores": {"bytes_read": q + k, "bytes_written": s, "flops": flops},
        "softmax": {"bytes_read": s, "bytes_written": s, "flops": 5 * s / bytes_per_element},
        "weighted_sum": {"bytes_read": s + k, "bytes_written": q, "flops": flops},
    }
""",
        """
def attention_costs(*, bytes_per_element, **sizes):
    count = attention_elements(**sizes)
    moved = {name: bytes_per_element * n for name, n in count.items()}
    multiply_adds = count["Q"] * sizes["keys"]
    costs = {}
    for name, ins, out, flops in [
        ("scores", "QK", "S", 2 * multiply_adds),
        ("softmax", "S", "P", 5 * count["S"]),
        ("weighted_sum", "PV", "O", multiply_adds + multiply_adds),
    ]:
        read = sum(moved[i] for i in ins)
        costs[name] = dict(bytes_read=read, bytes_written=moved[out], flops=flops)
    return costs
""",
    ],
    "attention_intensity": [
        """
def attention_intensity(
    *, mode, batch_size, seq_len, num_attention_heads, num_key_value_heads, head_dim,
    bytes_per_element,
):
    if mode not in ("train", "prefill", "decode"):
        raise ValueError(mode)
    n = 1 if mode == "decode" else seq_len
    a, k, h, t, s = num_attention_heads, num_key_value_heads, head_dim, seq_len, bytes_per_element
    scores = 2 * a * n * t * h / (s * (a * n * h + k * t * h + a * n * t))
    together = a * n * t * (4 * h + 5) / (2 * s * (a * n * h + k * t * h + 2 * a * n * t))
    return {"scores": scores, "weighted_sum": scores, "softmax": 2.5 / s, "together": together}
""",
        """
from fractions import Fraction
def attention_intensity(*, mode, seq_len, **sizes):
    if mode == "decode":
        queries = 1
    elif mode in ("train", "prefill"):
        queries = seq_len
    else:
        raise ValueError(mode)
    costs = list(attention_costs(queries=queries, keys=seq_len, **sizes).values())
    def ratio(*some):
        moved = sum(cost["bytes_read"] + cost["bytes_written"] for cost in some)
        return float(Fraction(sum(cost["flops"] for cost in some), moved))
    names = ["scores", "softmax", "weighted_sum"]
    answer = {name: ratio(cost) for name, cost in zip(names, costs)}
    return answer | {"together": ratio(*costs)}
""",
    ],
    "roofline": [
        """
def roofline(*, flops, bytes_moved, peak_flops, bandwidth):
    speed = min(peak_flops, flops / bytes_moved * bandwidth)
    bound = "compute" if flops * bandwidth >= bytes_moved * peak_flops else "memory"
    return {"seconds": flops / speed, "flops_per_second": speed, "bound": bound}
""",
        """
def roofline(flops, bytes_moved, peak_flops, bandwidth):
    intensity, ridge = flops / bytes_moved, peak_flops / bandwidth
    if intensity >= ridge:
        return {"bound": "compute", "seconds": flops / peak_flops, "flops_per_second": peak_flops}
    seconds = bytes_moved / bandwidth
    return {"bound": "memory", "seconds": seconds, "flops_per_second": flops / seconds}
""",
    ],
    "sequence_time": [
        """
def sequence_time(*, operators, peak_flops, bandwidth):
    computing = waiting = 0.0
    for flops, moved in operators:
        if flops / peak_flops >= moved / bandwidth:
            computing += flops / peak_flops
        else:
            waiting += moved / bandwidth
    total = computing + waiting
    return {"seconds": total, "memory_bound_share": waiting / total if operators else 0.0}
""",
        """
import numpy as np
def sequence_time(operators, peak_flops, bandwidth):
    if len(operators) == 0:
        return {"seconds": 0, "memory_bound_share": 0}
    flops, moved = np.array(operators, dtype=float).T
    times = np.maximum(flops / peak_flops, moved / bandwidth)
    slow = flops * bandwidth < moved * peak_flops
    return {"seconds": times.sum(), "memory_bound_share": 1 - times[~slow].sum() / times.sum()}
""",
    ],
    "compute_bound_batch": [
        """
def compute_bound_batch(*, d_in, d_out, peak_flops, bandwidth, bytes_per_element):
    def intensity(b):
        moved = bytes_per_element * (b * d_in + d_in * d_out + b * d_out)
        return 2 * b * d_in * d_out / moved
    ridge = peak_flops / bandwidth
    if 2 * d_in * d_out / (bytes_per_element * (d_in + d_out)) <= ridge:
        return math.inf
    b = 1
    while intensity(b) < ridge:
        b *= 2
    low = b // 2
    while b - low > 1:
        middle = (low + b) // 2
        low, b = (low, middle) if intensity(middle) >= ridge else (middle, b)
    return b
""",
        """
def compute_bound_batch(d_in, d_out, peak_flops, bandwidth, bytes_per_element):
    needed = peak_flops * bytes_per_element * d_in * d_out
    room = 2 * bandwidth * d_in * d_out - bytes_per_element * peak_flops * (d_in + d_out)
    return float("inf") if room <= 0 else -int(-needed // room)
""",
    ],
    "linear_limits": [
        """
def linear_limits(*, batch_size, hidden_size, bytes_per_element):
    long = 2 * hidden_size**2 / (bytes_per_element * (hidden_size + hidden_size))
    wide = 2 * batch_size / bytes_per_element
    return {"decode_wide": wide, "decode_large_batch": long, "prefill_long": long}
""",
        """
import sympy
def linear_limits(*, batch_size, hidden_size, bytes_per_element):
    n, d = sympy.symbols("n d", positive=True)
    intensity = 2 * n * d / (bytes_per_element * (2 * n + d))
    rows = float(sympy.limit(intensity.subs(d, hidden_size), n, sympy.oo))
    wide = float(sympy.limit(intensity.subs(n, batch_size), d, sympy.oo))
    return {"prefill_long": rows, "decode_large_batch": rows, "decode_wide": wide}
""",
        """
def linear_limits(*, batch_size, hidden_size, bytes_per_element):
    infinity = 10**15
    def at(rows, d):
        return linear_intensity(mode="decode", batch_size=rows, seq_len=1, d_in=d, d_out=d,
                                bytes_per_element=bytes_per_element)
    rows, wide = at(infinity, hidden_size), at(batch_size, infinity)
    return {"prefill_long": rows, "decode_large_batch": rows, "decode_wide": wide}
""",
    ],
    "attention_limits": [
        """
def attention_limits(
    *, batch_size, seq_len, num_attention_heads, num_key_value_heads, head_dim, bytes_per_element
):
    g, h, s, t = num_attention_heads / num_key_value_heads, head_dim, bytes_per_element, seq_len
    return {
        "prefill_long": h / (s / 2),
        "decode_long": 2 / s / (1 / h + 1 / g),
        "decode_large_batch": 2 / s / (1 / h + 1 / g + 1 / t),
        "fused_prefill_long": float("inf"),
    }
""",
        """
import sympy
def attention_limits(
    *, batch_size, seq_len, num_attention_heads, num_key_value_heads, head_dim, bytes_per_element
):
    t, n = sympy.symbols("t n", positive=True)
    a, k, h, s = num_attention_heads, num_key_value_heads, head_dim, bytes_per_element
    scores = 2 * a * n * t * h / (s * (a * n * h + k * t * h + a * n * t))
    fused = 4 * a * t * t * h / (s * (2 * a * t * h + 2 * k * t * h))
    return {
        "prefill_long": float(sympy.limit(scores.subs(n, t), t, sympy.oo)),
        "decode_long": float(sympy.limit(scores.subs(n, 1), t, sympy.oo)),
        "decode_large_batch": float(scores.subs({n: 1, t: seq_len})),
        "fused_prefill_long": float(sympy.limit(fused, t, sympy.oo)),
    }
""",
    ],
    "bounds": [
        """
def bounds(
    *, mode, batch_size, seq_len, hidden_size, num_attention_heads, num_key_value_heads, head_dim,
    intermediate_size, bytes_per_element, peak_flops, bandwidth,
):
    n, b, t, s = (1 if mode == "decode" else seq_len), batch_size, seq_len, bytes_per_element
    q, k = num_attention_heads * head_dim, num_key_value_heads * head_dim
    def side(flops, elements):
        slow = flops / peak_flops < s * elements / bandwidth
        return "memory" if slow else "compute"
    def linear(i, o):
        return side(2 * b * n * i * o, b * n * (i + o) + i * o)
    scores = b * num_attention_heads * n * t
    product = side(2 * scores * head_dim, scores + b * n * q + b * t * k)
    return {
        "scores": product, "weighted_sum": product, "softmax": side(5 * scores, 2 * scores),
        "query": linear(hidden_size, q), "output": linear(q, hidden_size),
        "key": linear(hidden_size, k), "value": linear(hidden_size, k),
        "up": linear(hidden_size, intermediate_size),
        "down": linear(intermediate_size, hidden_size),
    }
""",
        """
def bounds(*, hidden_size, intermediate_size, peak_flops, bandwidth, **sizes):
    heads = {"num_attention_heads", "num_key_value_heads", "head_dim"}
    plain = {name: size for name, size in sizes.items() if name not in heads}
    query = sizes["num_attention_heads"] * sizes["head_dim"]
    key = sizes["num_key_value_heads"] * sizes["head_dim"]
    answer = {}
    for names, d_in, d_out in [
        (["query"], hidden_size, query), (["key", "value"], hidden_size, key),
        (["output"], query, hidden_size), (["up"], hidden_size, intermediate_size),
        (["down"], intermediate_size, hidden_size),
    ]:
        for name in names:
            answer[name] = linear_intensity(d_in=d_in, d_out=d_out, **plain)
    answer.update(attention_intensity(**sizes))
    del answer["together"]
    return {n: "memory" if v * bandwidth < peak_flops else "compute" for n, v in answer.items()}
""",
    ],
}

EQUIVALENT = {
    # The batch multiplies FLOPs and bytes alike: it cancels in an intensity.
    "attention_intensity": [r"attention_costs\(batch_size=(?!batch_size)"],
    # No draw has an intensity limit that is the ridge to the last digit.
    "compute_bound_batch": [r"reciprocal >= 0"],
    # Draws keep off the ridge, where rounding would decide; that of 3.1 is exact.
    "bounds": [r"value > ridge"],
}
