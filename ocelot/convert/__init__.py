"""Files of other supervisors as files of ``ocelot supervise``. For a desk: images leave it out."""
