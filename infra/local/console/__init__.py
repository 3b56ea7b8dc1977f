"""A page in the browser that shows the local stack as users and operators see it."""
