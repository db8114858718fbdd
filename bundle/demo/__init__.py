"""A trained network in one page that works offline: ``python -m bundle demo RUN``.

``export`` turns a network into steps and weights, ``page`` puts them into the page; what the page
does stands in ``template/``, in JavaScript without a library.
"""

from argparse import Namespace


def demo(args: Namespace) -> int:
    """Write results/RUN/demo.html: a page that classifies pictures of one's own, offline."""
    from bundle import paths
    from bundle.pages import index, publish

    paths.check_run_name("RUN", args.run)
    from bundle.demo import page  # late: it loads PyTorch, and a mistake is told before

    written = page.write(args.run)
    if publish.executed_notebooks(args.run):
        publish.render_run(args.run)  # the report links to it
    index.write_index()
    print(f"{paths.shown(written)}: {written.stat().st_size / 1e6:.1f} MB, opens in any browser")
    return 0
