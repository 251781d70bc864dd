"""nbgrader's settings. Run nbgrader's commands in this folder: `cd exercises; nbgrader ...`."""

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# nbgrader calls `alembic` by its bare name, and kernels import `lib` and `exercises`.
for variable, folder in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", REPOSITORY)):
    folders = os.environ.get(variable, "").split(os.pathsep)
    if str(folder) not in folders:
        os.environ[variable] = os.pathsep.join(filter(None, [str(folder), *folders]))
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor  # noqa: E402
from nbgrader.preprocessors import GetGrades  # noqa: E402

from exercises.feedback import (  # noqa: E402
    FeedbackExporter,
    HideHiddenTests,
    ShowStudentWorkAsText,
    keep_pages_only,
)
from exercises.summary import Summarise  # noqa: E402

c = get_config()

c.CourseDirectory.course_id = "where-the-bytes-go"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\nraise NotImplementedError("this function is still to be written")'
}
c.Execute.timeout = 60

# A feedback page shows the student's own work, the visible tests, the points, and what the hidden
# tests said; not the hidden tests.
c.HTMLExporter.exclude_anchor_links = True
c.GenerateFeedback.exporter_class = FeedbackExporter
c.GenerateFeedback.post_convert_hook = keep_pages_only
c.GenerateFeedback.preprocessors = [
    GetGrades,
    HideHiddenTests,
    ShowStudentWorkAsText,
    CSSHTMLHeaderPreprocessor,
    Summarise,
]

# `SPLIT_GRADING=1 nbgrader autograde ...` runs submissions in the sandbox, apart from the tests.
if os.environ.get("SPLIT_GRADING"):
    from grading.plugin import configure

    configure(c)
