"""Files that are analysed on request: sent, queued, analysed, kept, across restarts.

============  ==========================================================================
``queue``     whose turn it is, and how much may wait: bookkeeping, nothing else
``spool``     the folder of files that wait and of results
``rows``      what is known of each job: in the store, or in memory where there is none
``restore``   what a server that died left behind
``work``      one job from its turn to its end
``jobs``      all of it together
============  ==========================================================================
"""

from dashboard.jobs.jobs import Jobs
from dashboard.jobs.queue import Place

__all__ = ["Jobs", "Place"]
