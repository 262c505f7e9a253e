"""Files that are analysed on request: sent, queued, analysed, kept, across restarts.

============  ==========================================================================
``options``   what a file is to be analysed for
``queue``     limits and order: bookkeeping, nothing else
``spool``     the folder of files that wait and of results, taken over at a start
``rows``      what is known of each job: in the store, or in memory without one
``work``      one job from its turn to its end
``analyser``  the analysis itself, with the server's engines
``jobs``      all of it together
============  ==========================================================================
"""

from dashboard.jobs.jobs import Jobs
from dashboard.jobs.queue import Place

__all__ = ["Jobs", "Place"]
