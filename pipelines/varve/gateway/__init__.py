"""The gateway: what senders push becomes messages of Kafka, and nothing acknowledged is lost."""
