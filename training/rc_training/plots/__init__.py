"""The paper's plots from one's own runs and checkpoints: training curves (Fig. 4), response values (Fig. 2 and 5).

What a picture shows is computed by pure functions (`curves`, `statistics`) that know nothing of Matplotlib; the
drawing (`curve_figure`, `violins`) computes nothing.
"""
