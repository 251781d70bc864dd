"""Under nbval a chapter's kernel finds the environment that tools.execute gives it."""

import os
from unittest import mock

from nbval import plugin

from tools.kernel import environment


class ChapterKernel(plugin.RunningKernel):
    def __init__(self, *arguments, **options):
        with mock.patch.dict(os.environ, environment(), clear=True):
            super().__init__(*arguments, **options)


plugin.RunningKernel = ChapterKernel
