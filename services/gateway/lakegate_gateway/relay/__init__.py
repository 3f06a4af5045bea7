"""The streamed relay: raw ASGI in front, HTTP/1.1 on httptools behind.

aiohttp's ClientSession costs 73 microseconds a request here, this client about 25, and it knows what a gateway
has to know of a failed call: whether a byte of the request had left.
"""
