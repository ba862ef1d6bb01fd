"""The OpenAPI 3.1 document of the REST API, made from descriptors and the comments beside them."""
