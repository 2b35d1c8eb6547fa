"""What is learned: one module an objective, as trainer.contract.Objective says, and the maskings that they share."""
