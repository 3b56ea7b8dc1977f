"""A page in the browser that shows the local stack as a user and as its operator sees it."""
