"""What the API, the jobs and the commands do: the domain decides, the store writes."""
