"""What goes to AWS, and how: packaging, the parts of the template that are made, and deploying."""
