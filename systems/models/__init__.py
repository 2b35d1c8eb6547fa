"""The networks, put together from transformers' parts: one module an architecture, as trainer.contract.Model says."""
