"""What an image becomes: one module a kind of units, as trainer.contract.Unit says."""
