"""Encoders as records: any frozen image encoder behind one interface, its weights checked before a byte of them is used."""
