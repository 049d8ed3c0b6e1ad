"""The dashboards: what a workspace knows, in a browser, with a link for everything shown."""
