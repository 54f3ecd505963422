"""What an operator can ask and do: functions that return data and print nothing."""
