"""`trl_step`: a whole training step of tool-using episodes, against TRL's `GRPOTrainer`."""
