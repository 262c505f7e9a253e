"""A call on one page: a self-contained HTML file that is read anywhere, and printed to PDF.

There is no script in it and nothing is fetched: what is drawn is SVG. It says what the pages say,
with their words and colours, and what the scores are not.
"""

from dashboard.report.call import (
    CallReport,
    ReportAlert,
    ReportChannel,
    report_of_file,
    report_of_stream,
)
from dashboard.report.page import LANGUAGES, report_page

__all__ = [
    "LANGUAGES",
    "CallReport",
    "ReportAlert",
    "ReportChannel",
    "report_of_file",
    "report_of_stream",
    "report_page",
]
