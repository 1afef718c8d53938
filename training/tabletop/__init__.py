"""A simulated arm that pushes blocks on a table, and policies trained on it.

The simulator (`exact`, `arm`, `scene`, `world`, `render`) is a specification: it uses only additions, multiplications,
divisions and square roots of IEEE doubles, in the order written, and integers. A port to another language
that keeps the order gives the same states and the same pixels, bit for bit.
"""
