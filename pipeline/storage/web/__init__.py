"""Files and archives on web servers, by libcurl."""
