"""RTP (RFC 3550): packets of lines in, one stream out; whoever announces them, or nobody."""
