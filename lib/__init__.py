"""The shared code of the bundle: what the notebooks call, each file readable in one sitting."""
