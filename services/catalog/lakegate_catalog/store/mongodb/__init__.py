"""The catalog store on MongoDB: motor in `adapter` only, documents, errors, and the relay of events to the log."""
