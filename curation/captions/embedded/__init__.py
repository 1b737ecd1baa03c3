"""The embedded captioner: modest sentences from measurements and small networks.

Each module looks at one thing and says only what it is sure of: ``colours``, ``light``, ``motion``,
``camera``, ``things``; ``sentences`` puts it together. None of them guesses at what it means.
"""
