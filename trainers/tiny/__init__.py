"""`model="tiny"`: a model made on the spot for one environment, and its warm start.

tiny = await make_tiny(worker, spec.tasks("train", seed=seed), seed=seed)
report = await warm_start(tiny, worker, spec.tasks("train", seed=seed), seed=seed)
"""
