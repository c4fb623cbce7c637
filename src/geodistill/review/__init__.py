"""A person's eye on labels: decide about objects in a browser, write that back, choose what to label next."""
