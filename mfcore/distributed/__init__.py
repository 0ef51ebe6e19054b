"""The same fit on many machines: `fit`, `recommend`, `evaluate` on a Dask cluster, and `plan`.

    from dask.distributed import Client
    from mfcore import ImplicitMF
    from mfcore.distributed import fit

    with Client(n_workers=2, threads_per_worker=1) as client:
        model = fit(ImplicitMF(64, random_state=0), "ratings.folder", client=client)

Needs pip install 'mfcore[distributed]'.
"""

from mfcore.distributed.fitting import fit
from mfcore.distributed.planning import Plan, plan
from mfcore.distributed.serving import evaluate, recommend

__all__ = ["Plan", "evaluate", "fit", "plan", "recommend"]
