"""Who a call is made for, and whether it may be made now."""
