"""Who a request is from, and which pages of browsers may send one: for all services over HTTP."""
