"""Two finished runs side by side: results/compare/A-B.html."""
