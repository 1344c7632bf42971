"""What one would use instead: an autoregressive in-context model, the way of the large vision models.

Bai et al. 2023, "Sequential Modeling Enables Scalable Learning for Large Vision Models" (LVM), at the scale of the nano
model: pictures become tokens of a codebook (`tokenizer`), a LLaMA-style decoder learns "visual sentences" of pairs
(`model`), and continues a sentence that ends with a query by the tokens of its answer (`answers`). Tokens of the
mixture's episodes are stored before the decoder trains on them (`data`), as latents are for ours; `train` trains both
networks by the clock, `store` keeps them, `latency` times them. `../autoregressive_train.py` and
`../autoregressive_baseline.py` are the commands.

What is as published: next-token prediction on all tokens of a sentence, inputs and targets alternating, no word of
what the task is; a causal decoder with RMSNorm, RoPE and SwiGLU; answers by KV cache. What is smaller: a picture of
64 px is 64 tokens of 8x8 px (LVM: a picture of 256 px is 256 tokens of 16x16 px) of a codebook of 1000 codes (LVM:
8192). At 16x16 px a picture would be 16 tokens, the number of our positions, but ours carry 64 numbers each; so finer
tokens are the fairer choice, and `token_px` is an option. What is left out: clips, whose 13 frames for every input and
target would make a sentence 13 times as long. So the baseline answers the tasks of images alone, and all of its
training time goes into them.
"""
