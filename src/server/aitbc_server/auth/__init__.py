"""Who a call is made for."""
