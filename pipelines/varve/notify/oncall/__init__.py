"""Who is on call, who is told next, and what has to be heard of: oncall.yml."""
