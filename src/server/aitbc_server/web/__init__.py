"""The explorer: pages for people, over the same methods that programs call."""
