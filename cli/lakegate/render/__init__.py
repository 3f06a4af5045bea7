"""What is drawn of each answer: functions from a model to something that rich can print."""
